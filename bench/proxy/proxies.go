package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// caddyModule is built on request, outside of this module.
const caddyModule = "github.com/caddyserver/caddy/v2/cmd/caddy@v2.11.9"

// setup is how a proxy is run. In config and arguments LISTEN, ORIGIN, FOLDER,
// FILE (of the config) and WORKERS stand for what they are in a run.
type setup struct {
	name    string
	program func(*bench) (string, error)
	args    string
	config  string
}

var setups = []setup{
	{"cmstap", func(b *bench) (string, error) { return b.cmstap, nil }, "run -c FILE", cmstapConfig},
	{"cmstap-64k", func(b *bench) (string, error) { return b.cmstap, nil }, "run -c FILE", strings.Replace(cmstapConfig, "proxy: {", "proxy: { max_header: 64KiB,", 1)},
	{"nginx", installed("nginx"), "-c FILE", nginxHead() + nginxProxy},
	{"reverseproxy", func(*bench) (string, error) { return os.Executable() }, "reverseproxy LISTEN ORIGIN", ""},
	{"codec", func(*bench) (string, error) { return os.Executable() }, "codec LISTEN ORIGIN", ""},
	{"haproxy", installed("haproxy"), "-db -f FILE", haproxyConfig},
	{"caddy", func(b *bench) (string, error) { return b.caddy, nil }, "run --adapter caddyfile --config FILE", caddyConfig},
}

func installed(name string) func(*bench) (string, error) {
	return func(*bench) (string, error) { return exec.LookPath(name) }
}

// names are those of the proxies that there are.
func names() (names []string) {
	for _, s := range setups {
		names = append(names, s.name)
	}
	return names
}

// start runs a proxy in front of the origin, as its users would on a machine
// with so many cores.
func (b *bench) start(ctx context.Context, name string) (*process, error) {
	s := setups[slices.Index(names(), name)]
	program, err := s.program(b)
	if err != nil {
		return nil, err
	}
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp(b.folder, name+"-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(folder, "config")
	fill := strings.NewReplacer("LISTEN", listen, "ORIGIN", b.origin, "FOLDER", folder, "FILE", file, "WORKERS", strconv.Itoa(b.workers))
	if err := os.WriteFile(file, []byte(fill.Replace(s.config)), 0o600); err != nil {
		return nil, err
	}
	env := []string{"GOMAXPROCS=" + strconv.Itoa(b.workers), "XDG_DATA_HOME=" + folder, "XDG_CONFIG_HOME=" + folder}
	p, err := launch(ctx, listen, env, program, strings.Fields(fill.Replace(s.args))...)
	if err == nil && program == b.cmstap {
		p.log = filepath.Join(folder, "log")
	}
	return p, err
}

// freeAddress is one that nobody listens on.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// Every write is an event that no webhook wants.
const cmstapConfig = `
proxy: { listen: "LISTEN", upstream: "http://ORIGIN", dialect: contentful }
outbox: { path: "FOLDER/data" }
admin: { listen: "" }
log: { file: "FOLDER/log" }
webhooks: [{ name: w, url: "http://127.0.0.1:9/", ` + subscription + ` }]
`

const subscription = `topics: ["Entry.*"], filter: payload.sys.contentType.sys.id == "nothing"`

func nginxHead() string {
	head := "daemon off; worker_processes WORKERS; pid FOLDER/pid; error_log FOLDER/error.log warn;\n"
	if os.Getuid() == 0 {
		head = "user root;\n" + head // the folder is ours alone
	}
	return head
}

// What is not the default: no log, and connections that are kept longer than
// for 1,000 requests.
const nginxCommon = `
  access_log off;
  keepalive_requests 100000000;
  keepalive_time 1d;
  client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxy;
  fastcgi_temp_path FOLDER/fastcgi; uwsgi_temp_path FOLDER/uwsgi; scgi_temp_path FOLDER/scgi;
  default_type application/vnd.contentful.management.v1+json;
`

const nginxProxy = `
events { worker_connections 4096; }
http {` + nginxCommon + `
  upstream origin { server ORIGIN; keepalive 256; keepalive_requests 100000000; keepalive_time 1d; }
  server {
    listen LISTEN backlog=4096;
    location / {
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
    }
  }
}
`

const haproxyConfig = `
global
  nbthread WORKERS
  maxconn 4096
defaults
  mode http
  option forwardfor
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend front
  bind LISTEN
  default_backend origin
backend origin
  server origin ORIGIN
`

const caddyConfig = `
{
	admin off
	auto_https off
	persist_config off
}
http://LISTEN {
	reverse_proxy ORIGIN
}
`

// reverseProxy is what a Go program has with the standard library alone.
func reverseProxy(ctx context.Context, listen, origin string) error {
	transport := &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: origin})
			r.SetXForwarded()
		},
	}
	server := &http.Server{Addr: listen, Handler: proxy, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// warm asks a proxy for what the legs ask for, compares it with what the origin
// has, and lets it run for a second.
func (b *bench) warm(ctx context.Context, p *process) error {
	for method, path := range map[string]string{"GET": "small", "HEAD": "large", "PUT": "warm"} {
		want, err := ask(ctx, method, b.origin, path)
		if err != nil {
			return err
		}
		got, err := ask(ctx, method, p.address, path)
		if err != nil || !bytes.Equal(got, want) {
			return errors.Join(err, fmt.Errorf("%s: the answer has %d bytes, the origin's %d", method, len(got), len(want)))
		}
	}
	_, err := b.wrk(ctx, legs[1], p.address, 1)
	return err
}

func ask(ctx context.Context, method, address, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+address+entries+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s", method, path, answer.Status)
	}
	return io.ReadAll(answer.Body)
}
