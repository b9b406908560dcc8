// Command cmstap stands in front of a CMS's content API, sees which requests
// changed content, and calls webhooks about it until they answer.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is set by the linker for a release.
var version = "development"

// memoryLimit is a soft limit on the heap: the store's garbage would grow
// without one. GOMEMLIMIT wins over it.
const memoryLimit = 160 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	log.SetOutput(io.Discard) // net/http writes there what a receiver sent out of turn, secrets that it echoes too
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	hangup := make(chan os.Signal, 1)
	if len(os.Args) > 1 && os.Args[1] == "run" { // anything else ends with its terminal
		signal.Notify(hangup, syscall.SIGHUP)
	}
	code := run(ctx, hangup, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// commands are the commands and flags.
type commands struct {
	Run      runCommand      `cmd:"" help:"Stand in front of a CMS and deliver webhooks."`
	Check    checkCommand    `cmd:"" help:"Say what run would refuse and what looks wrong, and change nothing."`
	Explain  explainCommand  `cmd:"" help:"Say what would become of a request: its route, its events, and who gets them."`
	Webhooks webhooksCommand `cmd:"" help:"Say what waits for each webhook of the cmstap that runs."`
	Calls    callsCommand    `cmd:"" help:"List what was called and how it ended, the newest first."`
	Show     showCommand     `cmd:"" help:"Show a call with what was sent and answered, or an event with all that became of it."`
	Drop     dropCommand     `cmd:"" help:"Delete what waits for a webhook that the config no longer has. cmstap must not run."`
	Import   importCommand   `cmd:"" help:"Make settings of what a CMS has."`
	Demo     demoCommand     `cmd:"" help:"Play an editorial story against a sample CMS and show the webhooks that follow."`
	Version  struct{}        `cmd:"" help:"Print the version."`
}

type runCommand struct {
	Config   string `short:"c" placeholder:"FILE" help:"The config file."`
	Listen   string `placeholder:"HOST:PORT" help:"Wins over proxy.listen."`
	Upstream string `placeholder:"URL" help:"Wins over proxy.upstream."`
	Data     string `placeholder:"FOLDER" help:"Wins over outbox.path."`
}

type demoCommand struct {
	Serve bool `help:"Keep everything running afterwards, and say how to try it."`
}

// run is the program: it returns the exit code. A value on hangup reopens the
// log file and reloads the config.
func run(ctx context.Context, hangup <-chan os.Signal, args []string, stdout, stderr io.Writer) int {
	var c commands
	exit := -1
	parser := kong.Must(&c, kong.Name("cmstap"), kong.Writers(stdout, stderr), kong.Exit(func(code int) { exit = code }),
		kong.Description("A tap in front of a headless CMS: what changed becomes webhooks that are not lost."), kong.UsageOnError())
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exit >= 0 {
		return exit
	}
	if err == nil {
		switch parsed.Command() {
		case "run":
			err = c.Run.run(ctx, hangup, stderr)
		case "check":
			err = c.Check.check(stdout, stderr)
		case "explain <method> <path>":
			err = c.Explain.explain(stdout)
		case "webhooks":
			err = c.Webhooks.run(ctx, stdout)
		case "calls":
			err = c.Calls.run(ctx, stdout)
		case "show <id>":
			err = c.Show.run(ctx, stdout)
		case "drop <name>":
			err = c.Drop.drop(ctx, stdout)
		case "import contentful <file>":
			err = c.Import.Contentful.run(os.Stdin, stdout)
		case "demo":
			err = c.Demo.run(ctx, stdout)
		case "version":
			_, err = fmt.Fprintf(stdout, "cmstap %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		}
	}
	if err != nil {
		fmt.Fprintf(stderr, "cmstap: %v\n", err)
		return 1
	}
	return 0
}

// checkCommand checks a config, or a dialect alone.
type checkCommand struct {
	runCommand `embed:""`
	Dialect    string `placeholder:"FILE" help:"Check a dialect's file instead of a config."`
}

// run serves until ctx ends.
func (c *runCommand) run(ctx context.Context, hangup <-chan os.Signal, stderr io.Writer) error {
	config, err := loadConfig(c.Config, c)
	if err != nil {
		return err
	}
	log, err := openLog(config.Log, stderr)
	if err != nil {
		return err
	}
	defer log.close()
	a, err := newApp(config, log, func() (*Config, error) { return loadConfig(c.Config, c) })
	if err != nil {
		return err
	}
	a.sayWarnings(config)
	go func() {
		for {
			select {
			case <-hangup:
				log.reopen()
				_, _ = a.Reload(ctx) // the log says how it went
			case <-ctx.Done():
				return
			}
		}
	}()
	return a.run(ctx)
}
