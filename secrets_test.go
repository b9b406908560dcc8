package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// plants are secrets by where they were put, and pieces of content, which must
// be found: that shows that the search finds what is there.
type plants struct {
	secrets map[string]string
	content []string
}

// letters are rare enough together that compression leaves a word of them whole.
const letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

func newWord() string {
	raw := make([]byte, 24)
	_, _ = rand.Read(raw)
	for i, b := range raw {
		raw[i] = letters[int(b)%len(letters)]
	}
	return string(raw)
}

// secret makes one up, with more behind it that needs escapes.
func (p *plants) secret(where, more string) string {
	if p.secrets[where] == "" {
		p.secrets[where] = newWord()
	}
	return p.secrets[where] + more
}

// find lists where the secrets came from that a text has, also in base64 and hex.
func (p *plants) find(text []byte) (found []string) {
	lower := bytes.ToLower(text)
	for where, word := range p.secrets {
		for _, form := range append(base64Of(word), word, hex.EncodeToString([]byte(word))) {
			if bytes.Contains(text, []byte(form)) || bytes.Contains(lower, []byte(strings.ToLower(word))) {
				found = append(found, where)
				break
			}
		}
	}
	return found
}

// base64Of is how a word looks inside base64, wherever it begins.
func base64Of(word string) (forms []string) {
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + word))
		forms = append(forms, text[4:len(text)-4])
	}
	return forms
}

// searchFolder looks into every file of the outbox.
func (p *plants) searchFolder(t *testing.T, folder string) {
	t.Helper()
	content, files := false, 0
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if found := p.find(text); len(found) > 0 {
			t.Errorf("%s has the secret of %s", path, strings.Join(found, ", "))
		}
		for _, word := range p.content {
			content = content || bytes.Contains(text, []byte(word))
		}
		files++
		return err
	})
	if err != nil || files < 3 || !content {
		t.Errorf("%d files, content found: %v, %v: this search proves nothing", files, content, err)
	}
}

// leakyCMS answers with secrets of its own, and breaks off where asked to.
func leakyCMS(p *plants) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Set-Cookie", "session="+p.secret("the CMS's cookie", ""))
		w.Header().Set("Content-Type", "application/json")
		switch id := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]; {
		case id == "cut" && r.Method == http.MethodPut:
			conn, _, _ := w.(http.Hijacker).Hijack()
			_ = conn.Close()
		case id == "broken":
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = fmt.Fprintf(w, `{"message": %q}`, p.secret("a failure of the CMS", ""))
		case id == "wrong":
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = fmt.Fprintf(w, `{"message": %q}`, p.secret("a refusal of the CMS", ""))
		case id == "login" || id == "api_keys":
			w.WriteHeader(http.StatusCreated)
			_, _ = fmt.Fprintf(w, `{"token": %q, "accessToken": %q}`, p.secret("a login", ""), p.secret("an API key", ""))
		default:
			_, _ = fmt.Fprintf(w, `{"sys": {"type": "Entry", "id": %q, "version": 2, "contentType": {"sys": {"id": "page"}}}, "fields": {"title": {"en": %q}}}`,
				id, p.content[len(id)%len(p.content)])
		}
	})
}

// echo writes what a receiver was sent, as it is and in the encodings that
// receivers use.
func echo(w io.Writer, r *http.Request) {
	all, _ := httputil.DumpRequest(r, true)
	_, _ = w.Write(all)
	user, password, _ := r.BasicAuth()
	parts := append(strings.Split(r.URL.Path, "/"), user, password, r.URL.String(), r.RequestURI, r.URL.Path)
	for _, values := range r.URL.Query() {
		parts = append(parts, values...)
	}
	for _, values := range r.Header {
		parts = append(parts, values...)
	}
	quoted, _ := json.Marshal(parts)
	_, _ = w.Write(quoted)
	for _, part := range parts {
		_, _ = fmt.Fprintf(w, "\n%s %s %s %q", url.QueryEscape(part), url.PathEscape(part), base64.StdEncoding.EncodeToString([]byte(part)), part)
	}
}

// bytesReceiver reads a request and answers with bytes.
func bytesReceiver(t *testing.T, answer func(request string) string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				request := make([]byte, 64<<10)
				n, _ := conn.Read(request)
				_, _ = io.WriteString(conn, answer(string(request[:n])))
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

func failing(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusInternalServerError)
	echo(w, r)
}

// secretHooks are webhooks that keep and get secrets in every way there is, and
// how the deliveries of each end.
func secretHooks(t *testing.T, p *plants) (config string, ends map[string]string) {
	t.Helper()
	failure := serve(t, http.HandlerFunc(failing)).URL
	hanging := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})).URL
	unauthorized := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(401); echo(w, r) })).URL
	tokens := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"access_token": %q, "token_type": "Bearer", "expires_in": 3600}`, p.secret("an OAuth2 token", ""))
	})).URL
	redirect := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.String())
		w.WriteHeader(http.StatusFound)
		echo(w, r)
	})).URL
	malformed := bytesReceiver(t, func(request string) string { return strings.ReplaceAll(request, "\r\n", " ") + "\r\n\r\n" })
	outOfTurn := bytesReceiver(t, func(request string) string {
		return "HTTP/1.1 204 No Content\r\n\r\n" + strings.ReplaceAll(request, "\r\n", " ")
	})
	withUser := func(base, where string) string {
		u, _ := url.Parse(base)
		u.User = url.UserPassword(p.secret(where+" user", ""), p.secret(where+" password", "/+&= %ü"))
		return u.String()
	}
	value := func(where, more string) string { return fmt.Sprintf("{ value: %q }", p.secret(where, more)) }
	path := fmt.Sprintf("/services/T0%s/%s?token=%s&u=%s", p.secret("path 1", ""), p.secret("path 2", ""),
		p.secret("query 1", "%2F%20x"), p.secret("query 2", ""))
	var out strings.Builder
	ends = map[string]string{}
	hook := func(name, end, address, settings string) {
		ends[name] = end
		fmt.Fprintf(&out, "- { <<: *all, name: %s, url: %q, %s }\n", name, address, settings)
	}
	oauth2 := func(tokenURL, where string) string {
		return fmt.Sprintf("auth: { oauth2: { token_url: %q, client_id: me, client_secret: %s } }", tokenURL+"/t?a="+p.secret("token_url", ""), value(where, "/+& "))
	}
	hook("echo", "failed", withUser(failure, "url")+path, fmt.Sprintf("headers: { X-Key: %s, X-Plain: %q }, signing: { scheme: standard, secret: %s, previous: %s }",
		value("header", "/+&=\\\""), "Token "+p.secret("plain header", ""), value("signing", ""), value("previous", "")))
	hook("malformed", "failed", malformed+path, "auth: { basic: { username: me, password: "+value("basic", "/+&= ")+" } }")
	hook("hanging", "failed", hanging+path, "timeout: 200ms, auth: { bearer: "+value("bearer", "")+" }, signing: { scheme: github, secret: "+value("github", "")+" }")
	hook("bearer", "failed", failure+path, "auth: { bearer: "+value("bearer", "")+" }")
	hook("authorization", "failed", failure+path, "headers: { authorization: "+fmt.Sprintf("{ value: %q }", "Token "+p.secret("authorization", ""))+" }")
	hook("oauth2", "failed", unauthorized+path, oauth2(tokens, "oauth2"))
	hook("no-token", "failed", failure+path, oauth2(failure, "oauth2 refused"))
	hook("refused", "failed", strings.Replace(failure, "127.0.0.1", "localhost", 1)+path, "imported: true")
	hook("away", "failed", "http://x.example"+path, "proxy: "+fmt.Sprintf("%q", withUser("http://127.0.0.1:1", "proxy")))
	hook("proxied", "failed", "http://x.example"+path, "proxy: "+fmt.Sprintf("%q", withUser(failure, "proxy")))
	hook("redirect", "failed", redirect+path, "")
	hook("out-of-turn", "delivered", outOfTurn+path, "headers: { X-Key: "+value("header", "")+" }")
	return out.String(), ends
}

// TestSecretsStayInside plants secrets wherever there may be some, lets happen
// what can happen, and then searches everything that cmstap wrote.
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &plants{secrets: map[string]string{}, content: []string{newWord(), newWord(), newWord()}}
	for _, where := range []string{"the CMS's cookie", "a failure of the CMS", "a refusal of the CMS", "a login", "an API key", "an OAuth2 token"} {
		p.secret(where, "") // so that nothing is added while servers run
	}
	hooks, ends := secretHooks(t, p)
	folder := t.TempDir()
	config := fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q }
recovery: { token: { value: %q }, ask_after: [50ms, 100ms, 200ms] }
outbox: { path: %q }
admin: { listen: "127.0.0.1:0" }
log: { level: debug }
x-all: &all { topics: "*.*", breaker: off, retry: { delays: [10ms, 10ms] } }
webhooks:
%s`, serve(t, leakyCMS(p)).URL, p.secret("recovery.token", ""), folder, hooks)
	var written bytes.Buffer
	for _, name := range []string{"first", "second"} {
		run := start(t, program, config, "env", "GOTRACEBACK=all")
		tellSecrets(t, p, run.proxy, name)
		for hook, end := range ends {
			fmt.Fprintln(&written, run.waitLine(t, "msg="+end, "webhook="+hook, "entity="+name))
		}
		fmt.Fprintln(&written, run.waitLine(t, "msg=asked", "entries/cut"))
		for _, path := range []string{"/livez", "/readyz", "/metrics", "/"} {
			_, answer, err := ask("GET", "http://"+run.admin+path, "", nil)
			fmt.Fprintln(&written, answer, err)
		}
		p.searchFolder(t, folder)
		if name == "first" {
			lines, err := run.stop()
			fmt.Fprintln(&written, strings.Join(lines, "\n"), err)
		} else {
			_ = syscall.Kill(run.command.Process.Pid, syscall.SIGQUIT)
			dump := strings.Join(run.drain(), "\n")
			if !strings.Contains(dump, "SIGQUIT") || strings.Count(dump, "goroutine ") < 20 {
				t.Errorf("that is no dump: %.2000s", dump)
			}
			written.WriteString(dump)
		}
		p.searchFolder(t, folder)
	}
	code, out, complaints := checkConfig(t, config)
	if fmt.Fprint(&written, out, complaints); code != 0 {
		t.Errorf("check: %s", complaints)
	}
	if found := p.find(written.Bytes()); len(found) > 0 {
		t.Errorf("the secrets of %s show", strings.Join(found, ", "))
		for line := range bytes.Lines(written.Bytes()) {
			if found := p.find(line); len(found) > 0 {
				t.Logf("%v in %.3000s", found, line)
			}
		}
	}
	if written.Len() < 10_000 {
		t.Errorf("only %d bytes were written", written.Len())
	}
}

// tellSecrets sends what clients send: writes of every outcome, and logins.
func tellSecrets(t *testing.T, p *plants, proxy, name string) {
	t.Helper()
	send := func(method, path string) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		body := fmt.Sprintf(`{"fields": {}, "password": %q}`, p.secret("a request's body", ""))
		r, err := http.NewRequestWithContext(ctx, method, "http://"+proxy+path+"?access_token="+p.secret("a client's query", ""), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+p.secret("a client's token", ""))
		r.Header.Set("Cookie", "session="+p.secret("a client's cookie", ""))
		r.Header.Set("X-Api-Key", p.secret("a client's key", ""))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Contentful-Content-Type", "page")
		r.Header.Set("X-Contentful-Version", "1")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
	send("POST", "/login")
	send("POST", "/spaces/s/api_keys")
	send("GET", "/spaces/s/environments/master/entries/e")
	for _, id := range []string{"wrong", "broken", "cut", name} {
		send("PUT", "/spaces/s/environments/master/entries/"+id)
	}
	send("PUT", "/spaces/s/environments/master/entries/"+name+"/published")
	send("DELETE", "/spaces/s/environments/master/entries/"+name+"-gone")
}
