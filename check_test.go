package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cmstap/outbox"

	"github.com/google/go-cmp/cmp"
)

// checkConfig runs check in this process; in what it prints FILE stands for the
// config.
func checkConfig(t *testing.T, config string, flags ...string) (code int, stdout, stderr string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cmstap.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, err bytes.Buffer
	code = run(context.Background(), nil, append([]string{"check", "-c", file}, flags...), &out, &err)
	return code, strings.ReplaceAll(out.String(), file, "FILE"), strings.ReplaceAll(err.String(), file, "FILE")
}

// TestCheckMistakes: what run refuses, at once or only on the machine, all in
// one go.
func TestCheckMistakes(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(config string, want ...string) {
		t.Helper()
		code, out, err := checkConfig(t, "proxy:\n  upstream: https://cms.example\n"+config)
		if diff := cmp.Diff("cmstap: "+strings.Join(want, "\n")+"\n", err); diff != "" || code != 1 || out != "" {
			t.Errorf("%s: exit code %d, %q\n%s", config, code, out, diff)
		}
	}
	const user = "let the user that runs cmstap write there, or name another "
	const machine = "; give an address of this machine, or only :PORT for all of them"
	check(`
  listen: 203.0.113.1:0
  dialect: ./nowhere.yaml
outbox: { path: `+file+`/a/b }
webhooks:
  - name: a
    url: https://hooks.example.com/
    topics: [Entry.published]
    auth: { basic: { username: u, password: { env: CMSTAP_NOT_SET } } }
    signing: { scheme: standard, secret: { file: /nowhere } }
admin: { listen: "203.0.113.2:0", token: { value: a-token-of-a-test } }
log: { file: /nowhere/log }
`,
		"FILE:4: proxy.listen: listen tcp 203.0.113.1:0: bind: cannot assign requested address"+machine,
		"FILE:5: proxy.dialect: the dialect can not be read: open ./nowhere.yaml: no such file or directory",
		"FILE:6: outbox.path: the folder can not be written: stat "+file+"/a/b: not a directory; "+user+"folder",
		"FILE:11: webhooks[0].auth.basic.password: the environment variable CMSTAP_NOT_SET is not set",
		"FILE:12: webhooks[0].signing.secret: the secret can not be read: open /nowhere: no such file or directory",
		"FILE:13: admin.listen: listen tcp 203.0.113.2:0: bind: cannot assign requested address"+machine,
		"FILE:14: log.file: can not be written: open /nowhere: no such file or directory; "+user+"file")
	check("  listen: 203.0.113.1:8080\nadmin: { listen: 203.0.113.1:8080, token: { value: a-token-of-a-test } }\noutbox: { path: "+t.TempDir()+"/data }",
		"FILE:3: proxy.listen: listen tcp 203.0.113.1:8080: bind: cannot assign requested address"+machine,
		"FILE:4: admin.listen: the port is that of proxy.listen; give it another one")
	check("  listen: 127.0.0.1:0\nadmin: { listen: '' }\noutbox: { path: "+file+" }", "FILE:5: outbox.path: the folder can not be written: mkdir "+file+": not a directory; "+user+"folder")
	folder := t.TempDir()
	check("  listen: 127.0.0.1:0\noutbox: { path: "+folder+"/data }\nlog: { file: "+folder+" }\nadmin: { listen: '' }",
		"FILE:5: log.file: can not be written: "+folder+" is not a regular file; "+user+"file")
	pipe := filepath.Join(folder, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	check("  listen: 127.0.0.1:0\noutbox: { path: "+folder+"/data }\nlog: { file: "+pipe+" }\nadmin: { listen: '' }",
		"FILE:5: log.file: can not be written: "+pipe+" is not a regular file; "+user+"file")
	const shell = "starts with ~, which only a shell replaces; write the whole path"
	check("  listen: 127.0.0.1:65536\n  dialect: ~/cms.yaml\n  tls: { cert: ~/cert, key: /nowhere }\noutbox: { path: ~/data }\nadmin: { listen: ':65536' }\nlog: { file: ~/log }",
		`FILE:3: proxy.listen: want host:port, for example 127.0.0.1:8080, not "127.0.0.1:65536"`,
		"FILE:4: proxy.dialect: "+shell, "FILE:5: proxy.tls.cert: "+shell, "FILE:6: outbox.path: "+shell,
		`FILE:7: admin.listen: want host:port, for example 127.0.0.1:8081, or "" for none, not ":65536"`, "FILE:8: log.file: "+shell)
}

// TestCheckWarnings: each warning with its line, and exit code 0.
func TestCheckWarnings(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	free, err := outbox.FreeSpace(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	check := func(config string, want ...string) {
		t.Helper()
		config = strings.NewReplacer("LISTEN", "listen: 127.0.0.1:0", "UPSTREAM", "upstream: http://127.0.0.1:1", "PATH", "path: "+data, "NONE", `listen: ""`).Replace(config)
		code, out, err := checkConfig(t, config)
		text := ""
		for _, line := range want {
			text += "warning: FILE:" + line + "\n"
		}
		if diff := cmp.Diff(text, err); diff != "" || code != 0 || out == "" {
			t.Errorf("%s: exit code %d, %q\n%s", config, code, out, diff)
		}
	}
	const replaced = "the CMS's own webhooks have this header, and yours takes its place; give it another name"
	const rest = "\noutbox: { PATH }\nadmin: { NONE }\n"
	check("proxy: { LISTEN, UPSTREAM }" + rest)
	check("proxy: { LISTEN, upstream: http://cms.example.com }"+rest, "1: proxy.upstream: http:// sends your clients' tokens to the CMS unencrypted; use https://")
	for _, local := range []string{"https://cms.example.com", "http://strapi:1337", "http://10.0.0.7", "http://0.0.0.0:1337", "http://cms.internal"} {
		check("proxy: { LISTEN, upstream: '" + local + "' }" + rest)
	}
	check("proxy:\n  LISTEN\n  UPSTREAM\n  durability: best_effort"+rest,
		"4: proxy.durability: a write that can not be recorded passes, and its event is lost; required answers 503 before the CMS sees it")
	check("proxy: { LISTEN, UPSTREAM }\nadmin: { NONE }\noutbox:\n  PATH\n  sync: false",
		"5: outbox.sync: a power cut may lose the events of the last moments; leave it out to wait for the disk")
	check("proxy: { LISTEN, UPSTREAM }\noutbox: { PATH }\nadmin:\n  listen: :0\n  token: { value: a-token-of-a-test }",
		"4: admin.listen: the token crosses the network as it is; listen on 127.0.0.1, or put something that speaks TLS in front")
	check("proxy: { LISTEN, UPSTREAM }\noutbox: { PATH }\nadmin: { listen: 'localhost:0' }")

	// Those of one webhook are rules' and sender's; they have their lines here too.
	const hooks = "proxy: { LISTEN, UPSTREAM }" + rest + "webhooks:\n"
	check(hooks+"- { name: a, url: https://x.example/, topics: ['*.*'] }\n- name: b\n  url: https://x.example/\n  topics:\n  - Entry.publish\n  - Entry.published\n"+
		"  filter: entity.contentType == 'a'\n  retry:\n    delays: []\n",
		"10: webhooks[1].topics[1]: no request makes such an event (dialect contentful); did you mean Entry.publish?",
		"11: webhooks[1].filter: reads entity.contentType, which no event has: the filter is false there; did you mean entity.content_type?",
		"13: webhooks[1].retry.delays: a call is made once: what fails is lost; leave retry out for 8 attempts over 1d3h35m5s")

	const twice = "9: webhooks[1].url: gets the same events as webhooks[0] under the same address: each comes twice; remove one of them"
	twins := hooks + "- { name: a, url: https://x.example/, topics: [Entry.save, '*.publish'], environments: [a] }\n- name: b\n  topics: ['*.publish', entry.save]\n  environments: [%s]\n  url: https://x.example/\n"
	check(fmt.Sprintf(twins, "a"), twice)
	check(fmt.Sprintf(twins, "b"))
	for _, other := range []string{"filter: confirmed", "headers: { X-Kind: b }", "auth: { basic: { username: b } }", "signing: { scheme: standard, secret: { value: 123456789012345678901234 } }", "method: PUT", "body: { a: b }", "payload: envelope"} {
		check(fmt.Sprintf(twins, "a") + "  " + other + "\n")
	}

	const open = "%d: webhooks[0].url: http:// sends what %s says unencrypted; use https://"
	const hook = hooks + "- name: a\n  topics: ['*.*']\n  url: http://%s/\n"
	check(fmt.Sprintf(hook, "x.example"))
	check(fmt.Sprintf(hook, "u:p@10.0.0.1"))
	check(fmt.Sprintf(hook, "u:p@x.example"), fmt.Sprintf(open, 7, "url"))
	check(fmt.Sprintf(hook, "x.example")+"  auth: { basic: { username: u } }\n", fmt.Sprintf(open, 7, "auth.basic"))
	check(fmt.Sprintf(hook, "x.example")+"  headers: { authorization: Bearer x }\n", fmt.Sprintf(open, 7, "headers.authorization"))
	check(fmt.Sprintf(hook, "10.0.0.1")+"  headers: { x-contentful-topic: a, X-Contentful-Webhook-Name: b, X-Own: c }\n",
		"8: webhooks[0].headers.X-Contentful-Webhook-Name: "+replaced, "8: webhooks[0].headers.x-contentful-topic: "+replaced)

	code, _, stderr := checkConfig(t, "proxy: { listen: 127.0.0.1:0, upstream: http://127.0.0.1:1 }\nadmin: { listen: '' }\noutbox:\n  path: "+data+"\n  min_free: "+(free+1<<30).String())
	if code != 0 || !strings.HasPrefix(stderr, "warning: FILE:5: outbox.min_free: only ") || !strings.HasSuffix(stderr, "MiB are free for "+data+": no write can be recorded (proxy.durability); make room\n") {
		t.Errorf("exit code %d, %s", code, stderr)
	}

	const alone = "proxy: { LISTEN, UPSTREAM }\nadmin: { NONE }\noutbox: { "
	folder := t.TempDir()
	for mode, warns := range map[os.FileMode]bool{0o700: false, 0o750: true, 0o705: true, 0o701: true} {
		if err := os.Chmod(folder, mode); err != nil {
			t.Fatal(err)
		}
		var want []string
		if warns {
			want = []string{fmt.Sprintf("3: outbox.path: other users of the machine may enter the folder (mode %04o), and it holds content that is not published: chmod 700 %s", mode, folder)}
		}
		check(alone+"path: "+folder+" }", want...)
	}
}

// TestCheckPorts: a port in use is no mistake, since a cmstap that runs has it;
// one that leads back to cmstap is worth a warning.
func TestCheckPorts(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	config := fmt.Sprintf(`proxy:
  listen: %[1]s
  upstream: http://localhost:%[2]s
outbox: { path: %[3]q }
admin: { listen: "" }
webhooks:
- name: a
  topics: ["*.*"]
  url: http://%[1]s/secret-path?secret=query
`, address, port, filepath.Join(t.TempDir(), "data"))
	code, _, stderr := checkConfig(t, config)
	want := `warning: FILE:2: proxy.listen: the port is in use: by a cmstap that runs already, or by another program; then stop that, or give another port
warning: FILE:3: proxy.upstream: leads to proxy.listen: cmstap would call itself; name the CMS's own address
warning: FILE:9: webhooks[0].url: leads to proxy.listen: cmstap would call itself, and the CMS with it; name the receiver's own address
`
	if diff := cmp.Diff(want, stderr); diff != "" || code != 0 {
		t.Errorf("exit code %d\n%s", code, diff)
	}
}

// TestCheckSummary: what it prints, and that no secret is in it.
func TestCheckSummary(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	code, stdout, stderr := checkConfig(t, `
proxy: { upstream: "https://api.contentful.com/secret-base" }
recovery: { token: { value: secret-token } }
aliases: { s: { live: main, old: main } }
admin: { listen: "" }
log: { file: `+folder+`/log, level: debug, format: json }
webhooks:
- name: site
  url: https://hooks.example.com:8443/secret-path?secret=query
  topics: [Entry.publish, "Asset.*"]
  environments: [master, staging]
  filter: payload.sys.id == "secret-entry"
  headers: { X-A: secret-header }
  auth: { basic: { username: secret-user, password: { value: secret-word } } }
  signing: { scheme: standard, secret: { value: whsec_c2VjcmV0LXNpZ25pbmctb2YtMjQtYnl0 } }
  retry: { delays: [5s, 1m, 10m] }
- { name: audit, url: "http://user:secret-password@127.0.0.1:9/x", topics: ["*.*"] }
`, "--listen", "127.0.0.1:0", "--data", folder+"/data")
	want := `cmstap development, FILE: run would accept it
proxy      127.0.0.1:0 -> https://api.contentful.com
dialect    contentful: 91 topics
durability required; sync true
outbox     FOLDER/data: at most 4GiB and 10000 open writes; keeps what was delivered for 7d, what failed for 30d
recovery   with a token
aliases    2 configured; others are learned
admin      none
log        json, level debug, to FOLDER/log
webhook    site -> hooks.example.com:8443: Entry.publish, Asset.*; in master, staging; filtered; 4 attempts over 11m5s; signed
webhook    audit -> 127.0.0.1:9: *.*; in every environment; no filter; 8 attempts over 1d3h35m5s; not signed
not seen   changes in the vendor's own web app; what schedules do later; clients that call the CMS directly
`
	if diff := cmp.Diff(want, strings.ReplaceAll(stdout, folder, "FOLDER")); diff != "" || code != 0 || stderr != "" {
		t.Errorf("exit code %d, %s\n%s", code, stderr, diff)
	}
	_, stdout, _ = checkConfig(t, "proxy: { listen: 127.0.0.1:0, upstream: http://strapi }\nadmin: { listen: '' }\noutbox: { path: "+folder+" }")
	for _, line := range []string{
		"\nrecovery   no token: what is in doubt after a restart goes out unconfirmed\n", "\nwebhook    none: nobody is called\n",
		"\nnot seen   clients that call the CMS directly; what schedules do later; changes in the CMS's database\n",
	} {
		if !strings.Contains(stdout, line) {
			t.Errorf("no %q in %s", line, stdout)
		}
	}
}

// TestCheckExample: the example has nothing to complain about. Its ports may be
// in use here.
func TestCheckExample(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := strings.NewReplacer("127.0.0.1:8080", "127.0.0.1:0", "127.0.0.1:8081", "127.0.0.1:0").Replace(string(text))
	if code, _, stderr := checkConfig(t, config, "--data", filepath.Join(t.TempDir(), "data")); code != 0 || stderr != "" {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// TestCheckChangesNothing: the real binary beside one that runs with the same
// config; and under strace, where it accepts nobody and makes no file.
func TestCheckChangesNothing(t *testing.T) {
	t.Parallel()
	need(t, "strace")
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	file, trace := filepath.Join(folder, "cmstap.yaml"), filepath.Join(t.TempDir(), "trace")
	config := "proxy: { listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:1' }\nadmin: { listen: '' }\noutbox: { path: " + folder + "/data }\n"
	if err := os.WriteFile(file, []byte(config+"log: { file: "+folder+"/log }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(code int, text string, flags ...string) {
		t.Helper()
		before := files(t, folder)
		args := append([]string{"-f", "-o", trace, "-e", "trace=openat,mkdirat,unlinkat,renameat,accept4", program, "check", "-c", file}, flags...)
		command := exec.Command("strace", args...)
		out, _ := command.CombinedOutput()
		if got := command.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), text) {
			t.Errorf("exit code %d, %s", got, out)
		}
		if diff := cmp.Diff(before, files(t, folder)); diff != "" {
			t.Error(diff)
		}
		calls, err := os.ReadFile(trace)
		if err != nil || !strings.Contains(string(calls), "cmstap.yaml") {
			t.Errorf("%v\n%s", err, calls)
		}
		for _, call := range []string{"accept4(", "O_CREAT", "O_WRONLY", "O_RDWR|", "mkdirat(", "unlinkat(", "renameat("} {
			if strings.Contains(string(calls), call) {
				t.Errorf("%s was called:\n%s", call, calls)
			}
		}
	}
	check(0, "run would accept it")
	check(1, "want host:port", "--listen", "nowhere")
	p := start(t, program, config)
	check(0, "the port is in use", "--listen", p.proxy)
	check(0, "outbox.path: the folder is in use: by a cmstap that runs already; another one needs a folder of its own")
	if _, err := p.stop(); err != nil {
		t.Error(err)
	}
}

// files lists the files below a folder, with their modes.
func files(t *testing.T, folder string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			found = append(found, fmt.Sprint(path, " ", info.Mode()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestCheckRights: what another user may not write is a mistake.
func TestCheckRights(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "cmstap-rights-") // unlike t.TempDir it can be entered by others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	image, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	config := "proxy: { listen: '127.0.0.1:81', upstream: 'http://127.0.0.1:1' }\nadmin: { listen: '' }\n" +
		"outbox: { path: " + folder + "/data }\nlog: { file: " + folder + "/log }\n"
	for name, content := range map[string][]byte{"cmstap": image, "cmstap.yaml": []byte(config)} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(folder, 0o555); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(filepath.Join(folder, "cmstap"), "check", "-c", filepath.Join(folder, "cmstap.yaml"))
	if os.Getuid() == 0 { // root may write everywhere
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, _ := command.CombinedOutput()
	if free, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil && string(free) == "1024\n" {
		const line = "yaml:1: proxy.listen: listen tcp 127.0.0.1:81: bind: permission denied; give a port above 1023, or the right to this one (AmbientCapabilities="
		if !strings.Contains(string(out), line) {
			t.Errorf("no %q in %s", line, out)
		}
	}
	for _, line := range []string{"yaml:3: outbox.path: the folder can not be written: open " + folder + ": permission denied", "yaml:4: log.file: can not be written: open " + folder + ": permission denied"} {
		if !strings.Contains(string(out), line) {
			t.Errorf("no %q in %s", line, out)
		}
	}
}

// TestRunWarns: run logs what check would print.
func TestRunWarns(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, program, "proxy: { listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:1' }\nadmin: { listen: '' }\noutbox: { path: "+t.TempDir()+
		"/data }\nwebhooks:\n- { name: a, url: 'http://127.0.0.1:1/secret', topics: [Entry.published] }\n")
	lines, err := p.stop()
	line := strings.Join(lines, "\n")
	if err != nil || field(line, "msg") != "config" || field(line, "setting") != "webhooks[0].topics[0]" || field(line, "line") != "5" ||
		!strings.Contains(field(line, "hint"), "did you mean Entry.publish?") || strings.Contains(line, "secret") {
		t.Errorf("%v\n%s", err, line)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	leads := func(address, listen string, want bool) {
		t.Helper()
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := leadsTo(u, listen); got != want {
			t.Errorf("%s leads to %s: %v", address, listen, got)
		}
	}
	leads("http://127.0.0.1:8080/x", "127.0.0.1:8080", true)
	leads("http://localhost:8080/x", "127.0.0.1:8080", true)
	leads("http://[::1]:8080/x", ":8080", true)
	leads("http://tap.Example:8080/x", "tap.example:8080", true)
	leads("http://127.0.0.1/x", "0.0.0.0:80", true)
	leads("https://127.0.0.1/x", "[::]:443", true)
	leads("https://127.0.0.1/x", "[::]:80", false)
	leads("http://127.0.0.1:8080/x", "10.0.0.1:8080", false)
	leads("http://hooks.example:8080/x", ":8080", false)
	leads("http://127.0.0.1:8080/x", "nowhere", false)
	leads("http://127.0.0.2:8080/x", "127.0.0.1:8080", false)
	leads("http://127.0.0.2:8080/x", "127.0.0.2:8080", true)
	leads("http://127.0.0.2:8080/x", ":8080", true)
	leads("http://0.0.0.0:8080/x", "127.0.0.1:8080", true)
	leads("http://0.0.0.0:8080/x", "localhost:8080", true)
	leads("http://0.0.0.0:8080/x", ":8080", true)
	leads("http://0.0.0.0:8080/x", "10.0.0.1:8080", false)
	leads("http://[::ffff:127.0.0.1]:8080/x", "127.0.0.1:8080", true)
	leads("http://10.0.0.2:8080/x", ":8080", false)

	both := func(a, b string, want bool) {
		t.Helper()
		if sameListener(a, b) != want || sameListener(b, a) != want {
			t.Errorf("%s and %s collide: %v", a, b, !want)
		}
	}
	both("127.0.0.1:1", "127.0.0.1:1", true)
	both("127.0.0.1:1", ":1", true)
	both("127.0.0.1:1", "[::]:1", true)
	both("127.0.0.1:1", "127.0.0.1:2", false)
	both("127.0.0.1:1", "localhost:1", true)
	both("A.example:1", "a.example:1", true)
	both("a.example:1", "b.example:1", false)
	both("127.0.0.1:1", "127.0.0.2:1", false)
	both("127.0.0.1:0", "127.0.0.1:0", false)
	both("127.0.0.1:1", "", false)

	for host, want := range map[string]bool{
		"127.0.0.1": true, "0.0.0.0": true, "::": true, "::1": true, "192.168.1.2": true, "fd00::1": true, "169.254.1.1": true, "localhost": true, "strapi": true, "cms.local": true,
		"a.svc.cluster.local": true, "8.8.8.8": false, "cms.example.com": false, "local.example.com": false, "notlocal.com": false,
	} {
		if isLocal(host) != want {
			t.Errorf("%s is local: %v", host, !want)
		}
	}
	if !hasDomain("api.eu.Contentful.com", hosted...) || hasDomain("notcontentful.com", hosted...) {
		t.Error("hosted systems are not told apart")
	}
}
