package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"cmstap/internal/contentful"
	"cmstap/internal/setting"
)

// importCommand makes settings of what a CMS has.
type importCommand struct {
	Contentful importContentful `cmd:"" help:"Make webhooks of Contentful's webhook definitions (JSON); the config goes to the standard output."`
}

type importContentful struct {
	File string `arg:"" help:"A definition, a list of them, or an export; - is the standard input."`
}

// run writes the part webhooks of a config, and refuses to write one that could
// not be loaded.
func (c *importContentful) run(stdin io.Reader, stdout io.Writer) error {
	definitions, err := c.definitions(stdin)
	if err != nil {
		return err
	}
	known := func(string, string) string { return "{ value: known }" }
	tried, err := contentful.Webhooks(definitions, known)
	if err != nil {
		return err
	}
	tried += anyAddress
	var problems setting.Problems
	if _, err := parseConfig("what would be written", []byte(tried), &runCommand{Upstream: "https://api.contentful.com"}); errors.As(err, &problems) {
		return fmt.Errorf("a definition can not be imported as it is; change it in the file:\n%w", problems)
	}
	text, err := contentful.Webhooks(definitions, contentful.FromEnvironment)
	if err != nil {
		return err
	}
	_, err = io.WriteString(stdout, text)
	return err
}

// anyAddress leaves it to the config that takes the webhooks which addresses may
// be called.
const anyAddress = "\negress: { allow: [0.0.0.0/0, '::/0'] }\n"

func (c *importContentful) definitions(stdin io.Reader) ([]contentful.Definition, error) {
	from := stdin
	if c.File != "-" {
		file, err := os.Open(c.File)
		if err != nil {
			return nil, fmt.Errorf("the definitions can not be read: %w", err)
		}
		defer func() { _ = file.Close() }()
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, maxImport))
	if err != nil {
		return nil, fmt.Errorf("the definitions can not be read: %w", err)
	}
	return contentful.Parse(text)
}

// maxImport is how much of a file is read, in bytes.
const maxImport = 64 << 20
