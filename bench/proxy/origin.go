package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// startOrigin runs the origin: an nginx with two files to read, and one answer
// to every write. It also writes the body of the writes.
func (b *bench) startOrigin(ctx context.Context) (*process, error) {
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(b.folder, "origin")
	files := filepath.Join(folder, entries)
	if err := os.MkdirAll(files, 0o700); err != nil {
		return nil, err
	}
	config := strings.NewReplacer("LISTEN", listen, "FOLDER", folder, "WORKERS", fmt.Sprint(b.workers), "SETS", setParts(entry(writeSize, "$id"))).
		Replace(nginxHead() + nginxOrigin)
	for name, text := range map[string]string{
		filepath.Join(files, "small"):           entry(smallSize, "small"),
		filepath.Join(files, "large"):           entry(largeSize, "large"),
		filepath.Join(b.folder, "write.json"):   entry(writeSize, "x"),
		filepath.Join(folder, "nginx-own.conf"): config,
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return launch(ctx, listen, nil, "nginx", "-c", filepath.Join(folder, "nginx-own.conf"))
}

const nginxOrigin = `
events { worker_connections 4096; }
http {` + nginxCommon + `
  open_file_cache max=10;
  open_file_cache_valid 1h;
  sendfile on;
  tcp_nopush on;
  server {
    listen LISTEN backlog=4096;
    root FOLDER;
    location ~ ^` + entries + `(?<id>[^/]+)$ {
      if ($request_method = PUT) {
SETS
      }
    }
  }
}
`

// setParts is how nginx answers with a text that is longer than it allows a
// word of its config to be.
func setParts(text string) string {
	var sets, all strings.Builder
	for i := 0; len(text) > 0; i++ {
		n := min(len(text), 1000)
		if cut := strings.LastIndexByte(text[:n], ' '); n < len(text) && cut > 0 {
			n = cut // not within a name of a variable
		}
		fmt.Fprintf(&sets, "        set $part%d '%s';\n", i, text[:n])
		fmt.Fprintf(&all, "${part%d}", i)
		text = text[n:]
	}
	return sets.String() + "        return 200 \"" + all.String() + "\";"
}

// entry is an entry of about so many bytes.
func entry(size int, id string) string {
	head := `{"sys": {"type": "Entry", "id": "` + id + `", "version": 2, "space": {"sys": {"type": "Link", "linkType": "Space", "id": "s"}}, ` +
		`"contentType": {"sys": {"type": "Link", "linkType": "ContentType", "id": "post"}}, ` +
		`"updatedBy": {"sys": {"type": "Link", "linkType": "User", "id": "u1"}}}, "fields": {"text": {"en-US": "`
	const tail = `"}}}`
	words := rand.New(rand.NewPCG(1, uint64(size))) // the same in every run
	text := []byte(head)
	for len(text) < size-len(tail) {
		for range 2 + words.IntN(9) {
			text = append(text, byte('a'+words.IntN(26)))
		}
		text = append(text, ' ')
	}
	return string(text[:size-len(tail)]) + tail
}
