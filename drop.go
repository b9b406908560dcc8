package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"

	"cmstap/outbox"
)

// dropCommand deletes what waits for a webhook that the config no longer has.
type dropCommand struct {
	Name   string `arg:"" help:"The webhook's name."`
	Config string `short:"c" placeholder:"FILE" help:"The config file."`
	Data   string `placeholder:"FOLDER" help:"Wins over outbox.path."`
}

func (c *dropCommand) drop(ctx context.Context, stdout io.Writer) error {
	config, err := loadConfig(c.Config, &runCommand{Data: c.Data})
	if err != nil {
		return err
	}
	var names []string
	for _, w := range config.Webhooks {
		names = append(names, w.Name)
	}
	if slices.Contains(names, c.Name) {
		return fmt.Errorf("the config still has the webhook %q: remove it there first, or more would come", c.Name)
	}
	folder := config.Outbox.Path
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("outbox.path: there is no folder %s", folder)
	}
	if outbox.InUse(folder) {
		return fmt.Errorf("outbox.path: the folder %s is in use: stop cmstap first", folder)
	}
	config.Outbox.Queues = config.queues() // else what waits of the others would be laid out anew
	store, err := outbox.Open(config.Outbox, names, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	dropped, err := store.DropWaiting(ctx, c.Name)
	if err = errors.Join(err, store.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "dropped %d deliveries of %s\n", dropped, c.Name)
	return err
}
