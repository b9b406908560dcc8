package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary builds cmstap once, as a user gets it.
var binary = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "cmstap-binary-")
	if err != nil {
		return "", err
	}
	built = folder
	path := filepath.Join(folder, "cmstap")
	return path, build(".", path)
})

// built is the folder of the binary, once there is one.
var built string

func build(source, path string) error {
	command := exec.Command("go", "build", "-o", path, ".")
	command.Dir = source
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// need skips a test that needs a tool which is not there; in CI, where
// everything is installed, that is a failure.
func need(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed", tool)
	}
	t.Skipf("%s is not installed", tool)
}

// process is a running cmstap.
type process struct {
	command *exec.Cmd
	lines   chan string // its log, until it ends
	passed  []string    // what waitLine read and did not return
	ready   chan bool
	proxy   string // host:port
	admin   string
}

// start runs cmstap with a config until stop, kill or the end of the test, and
// waits until it is ready. Wrap is put before the command ("strace", "-f").
func start(t testing.TB, program, config string, wrap ...string) *process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cmstap.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := launch(program, file, wrap...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

func launch(program, file string, wrap ...string) (*process, error) {
	p, err := begin(program, file, wrap...)
	if err != nil || <-p.ready {
		return p, err
	}
	var text []string
	for line := range p.lines {
		text = append(text, line)
	}
	_ = p.command.Wait()
	return nil, fmt.Errorf("cmstap did not start:\n%s", strings.Join(text, "\n"))
}

// begin starts the process; ready tells whether it came up.
func begin(program, file string, wrap ...string) (*process, error) {
	args := append(wrap, program, "run", "-c", file)
	p := &process{command: exec.Command(args[0], args[1:]...), lines: make(chan string, 10_000), ready: make(chan bool, 1)}
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := p.command.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go p.read(log)
	return p, nil
}

// read follows the log; the line "started" tells the addresses.
func (p *process) read(log io.Reader) {
	defer close(p.lines)
	started := false
	for scanner := bufio.NewScanner(log); scanner.Scan(); {
		line := scanner.Text()
		if !started && strings.Contains(line, "msg=started") {
			started = true
			p.proxy, p.admin = field(line, "listen"), field(line, "admin")
			p.ready <- true
		}
		select {
		case p.lines <- line:
		default: // nobody reads; keep the newest out rather than block cmstap
		}
	}
	if !started {
		p.ready <- false
	}
}

// field reads a value from a line of the log.
func field(line, key string) string {
	_, rest, _ := strings.Cut(line, " "+key+"=")
	if quoted, found := strings.CutPrefix(rest, `"`); found {
		value, _, _ := strings.Cut(quoted, `"`)
		return value
	}
	value, _, _ := strings.Cut(rest, " ")
	return value
}

// kill ends the process, and what wraps it, with SIGKILL.
func (p *process) kill() {
	if p.command.ProcessState == nil {
		_ = syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL)
		p.drain()
		_ = p.command.Wait()
	}
}

// stop ends the process, and what wraps it, with SIGTERM and returns how it ended and its log.
func (p *process) stop() ([]string, error) {
	_ = syscall.Kill(-p.command.Process.Pid, syscall.SIGTERM)
	lines := p.drain()
	return lines, p.command.Wait()
}

func (p *process) drain() []string {
	lines := p.passed
	for line := range p.lines {
		lines = append(lines, line)
	}
	return lines
}

// waitLine returns the first line of the log that has all the words and that
// no earlier call returned: the lines of one event come in no fixed order.
func (p *process) waitLine(t testing.TB, words ...string) string {
	t.Helper()
	for i, line := range p.passed {
		if hasAll(line, words) {
			p.passed = slices.Delete(p.passed, i, i+1)
			return line
		}
	}
	timeout := time.After(20 * time.Second)
	for {
		select {
		case <-timeout:
			t.Fatalf("no line with %q in:\n%s", words, strings.Join(p.passed, "\n"))
		case line, open := <-p.lines:
			if !open {
				t.Fatalf("the log ended without %q:\n%s", words, strings.Join(p.passed, "\n"))
			}
			if hasAll(line, words) {
				return line
			}
			p.passed = append(p.passed, line)
		}
	}
}

func hasAll(line string, words []string) bool {
	return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) })
}

// rss is a figure of /proc/PID/status in bytes: VmRSS or VmHWM.
func (p *process) rss(t testing.TB, figure string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		t.Skipf("no /proc here: %v", err)
	}
	_, rest, _ := strings.Cut(string(text), figure+":")
	var kilobytes int
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}

// serve runs a handler on a free port until the end of the test.
func serve(t testing.TB, handler http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = nil
	server.Start()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server
}

// ask sends one request and returns status and body.
func ask(method, url, body string, headers map[string]string) (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Authorization", "Bearer token-of-an-editor")
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}
