package sender

import (
	"regexp"

	"cmstap/internal/setting"
	"cmstap/sender/shape"
)

// Signing is how calls are signed.
type Signing struct {
	Scheme string         `yaml:"scheme"` // standard, contentful or github
	Secret setting.Secret `yaml:"secret"`
	// Previous is the secret before this one, for a second signature while
	// receivers change over.
	Previous setting.Secret `yaml:"previous"`
}

// contentfulSecret is what Contentful's API and its receivers' library take.
var contentfulSecret = regexp.MustCompile(`^[0-9a-zA-Z+/=_-]{64}$`)

func (s Signing) validate(check setting.Check) {
	if (s.Scheme != "") != s.Secret.IsSet() || s.Scheme == "" && s.Previous.IsSet() {
		check.Add("", "needs both a scheme and a secret")
		return
	}
	if s.Previous.IsSet() && s.Scheme != shape.Standard {
		check.Add("previous", "is for the scheme standard: only that carries two signatures; change the secret when the receiver knows the new one")
	}
	switch s.Scheme {
	case "", shape.GitHub:
	case shape.Standard:
		for path, secret := range map[string]setting.Secret{"secret": s.Secret, "previous": s.Previous} {
			if _, err := shape.Key(secret.Reveal()); err != nil {
				check.Add(path, "%v", err)
			}
		}
	case shape.Contentful:
		if !contentfulSecret.MatchString(s.Secret.Reveal()) {
			check.Add("secret", "must have exactly 64 of the characters 0-9 a-z A-Z + / = _ - for the scheme contentful")
		}
	default:
		check.Add("scheme", "must be standard, contentful or github")
	}
}

func (s Signing) shape() shape.Signing {
	return shape.Signing{Scheme: s.Scheme, Secret: s.Secret.Reveal(), Previous: s.Previous.Reveal()}
}
