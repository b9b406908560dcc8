package setting

import (
	"crypto/tls"
	"crypto/x509"
	"os"
)

// ClientTLS says how a server's certificate is checked, and what it is shown.
type ClientTLS struct {
	CA         string `yaml:"ca"`          // a file with the certificates to trust, instead of the system's
	ServerName string `yaml:"server_name"` // the name to ask for, if it is not the host of the address
	Cert       string `yaml:"cert"`        // cmstap's own certificate and key, if the server asks for one
	Key        string `yaml:"key"`
}

// Load reads the files and returns what they say, with TLS 1.2 at least. What
// can not be read is reported.
func (c ClientTLS) Load(check Check) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CA != "" {
		check.File("ca", c.CA)
		text, err := os.ReadFile(c.CA)
		config.RootCAs = x509.NewCertPool()
		if err != nil {
			check.Add("ca", "the file can not be read: %v", err)
		} else if !config.RootCAs.AppendCertsFromPEM(text) {
			check.Add("ca", "there is no certificate in PEM form in %s", c.CA)
		}
	}
	if c.Cert == "" && c.Key == "" {
		return config
	}
	check.File("cert", c.Cert)
	check.File("key", c.Key)
	pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		check.Add("", "the certificate and key can not be read: %v", err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config
}
