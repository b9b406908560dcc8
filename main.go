// Command cmstap stands in front of a CMS's content API, sees which requests
// changed content, and calls webhooks about it until they answer.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is set by the linker for a release.
var version = "development"

// memoryLimit is a soft limit on the heap: the store's garbage would grow
// without one. GOMEMLIMIT wins over it.
const memoryLimit = 136 << 20

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
	Explain  explainCommand  `cmd:"" help:"Say what would become of a request: its route, its events, and who gets them. Or who wants a recorded event, and why."`
	Webhooks webhooksCommand `cmd:"" help:"Say what waits for each webhook of the cmstap that runs."`
	Calls    callsCommand    `cmd:"" help:"List what was called and how it ended, the newest first."`
	Events   eventsCommand   `cmd:"" help:"List what happened and which webhooks wanted it, the newest first."`
	Show     showCommand     `cmd:"" help:"Show a call with what was sent and answered, or an event with all that became of it."`
	Tail     tailCommand     `cmd:"" help:"Follow events and calls as they happen."`
	Resend   resendCommand   `cmd:"" help:"Send an event to a webhook again, or all that was given up."`
	Replay   replayCommand   `cmd:"" help:"Put recorded events through the config once more; or say what another config would make of them."`
	Pause    pauseCommand    `cmd:"" help:"Start no new call of a webhook. Nothing is lost."`
	Resume   resumeCommand   `cmd:"" help:"Go on with the calls of a webhook."`
	SendTest testCommand     `cmd:"" help:"Send a made-up event to a webhook and show the call."`
	Reload   reloadCommand   `cmd:"" help:"Have the cmstap that runs read its config file again."`
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
		switch command, _, _ := strings.Cut(parsed.Command(), " "); command {
		case "run":
			err = c.Run.run(ctx, hangup, stderr)
		case "check":
			err = c.Check.check(stdout, stderr)
		case "explain":
			err = c.Explain.run(ctx, stdout)
		case "webhooks":
			err = c.Webhooks.run(ctx, stdout)
		case "calls":
			err = c.Calls.run(ctx, stdout)
		case "events":
			err = c.Events.run(ctx, stdout)
		case "show":
			err = c.Show.run(ctx, stdout)
		case "tail":
			err = c.Tail.run(ctx, stdout, stderr)
		case "resend":
			err = c.Resend.run(ctx, os.Stdin, stdout, stderr)
		case "replay":
			err = c.Replay.run(ctx, os.Stdin, stdout, stderr)
		case "pause":
			err = c.Pause.run(ctx, stdout)
		case "resume":
			err = c.Resume.run(ctx, stdout)
		case "send-test":
			err = c.SendTest.run(ctx, stdout)
		case "reload":
			err = c.Reload.run(ctx, stdout)
		case "drop":
			err = c.Drop.drop(ctx, stdout)
		case "import":
			err = c.Import.Contentful.run(os.Stdin, stdout)
		case "demo":
			err = c.Demo.run(ctx, stdout)
		case "version":
			_, err = fmt.Fprintf(stdout, "cmstap %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		}
	}
	if err != nil {
		fmt.Fprintf(stderr, "cmstap: %v\n", err)
		if errors.Is(err, errNothing) {
			return 2
		}
		return 1
	}
	return 0
}

// errNothing is wrapped by what says that there was nothing to do, or that
// something differs: the exit code is 2.
var errNothing = errors.New("")

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
	config.sayWarnings(log.logger)
	a, err := newApp(config, log, func() (*Config, error) { return loadConfig(c.Config, c) })
	if err != nil {
		return err
	}
	go func() {
		for {
			select {
			case <-hangup:
				log.reopen()
				_, _ = a.Reload() // the log says how it went
			case <-ctx.Done():
				return
			}
		}
	}()
	return a.run(ctx)
}
