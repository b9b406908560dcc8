package sender

import (
	"errors"
	"strings"
	"testing"
	"time"

	"cmstap/internal/setting"

	"github.com/google/go-cmp/cmp"
)

func decode(text string) (Endpoint, error) {
	var e Endpoint
	e.SetDefaults()
	err := setting.Decode("c.yaml", []byte(text), &e, e.Validate)
	return e, err
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	check := func(text string, want ...string) {
		t.Helper()
		_, err := decode("url: http://x.example\n" + text)
		got := []string{}
		var problems setting.Problems
		if errors.As(err, &problems) {
			got = strings.Split(problems.Error(), "\n")
		}
		if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
			t.Errorf("%q:\n%s", text, diff)
		}
	}
	check("")
	check("retry: standard")
	check("retry: { delays: [1s], on: [timeout, connection, 429, 5xx, 599, 300] }")
	check("retry: { delays: [] }")
	check("retry: { delays: [], on: [] }")
	check("headers: { X-Team: web, authorization: { value: Bearer x } }")
	check("auth: { basic: { username: a, password: { value: b } } }")
	check("signing: { scheme: standard, secret: { value: whsec_AAEC } }")
	check("retry: fast", `c.yaml:2: retry: want contentful, contentstack, datocms, standard, or { delays: [5s, 1m, 10m], on: [timeout, connection, 429, 5xx] }, not "fast"`)
	check("retry: { on: [never, 200, 600, 6xx, 2xx] }",
		`c.yaml:2: retry.on[0]: want timeout, connection, a status such as 429 or a class such as 5xx, not "never"`,
		`c.yaml:2: retry.on[1]: want timeout, connection, a status such as 429 or a class such as 5xx, not "200"`,
		`c.yaml:2: retry.on[2]: want timeout, connection, a status such as 429 or a class such as 5xx, not "600"`,
		`c.yaml:2: retry.on[3]: want timeout, connection, a status such as 429 or a class such as 5xx, not "6xx"`,
		`c.yaml:2: retry.on[4]: want timeout, connection, a status such as 429 or a class such as 5xx, not "2xx"`)
	check("retry: { on: [] }", `c.yaml:2: retry.on: names nothing; list what is retried, or give delays: [] for no second attempt`)
	check("retry: { delays: ["+strings.Repeat("1s,", 101)+"] }", `c.yaml:2: retry.delays: at most 100`)
	check("retry: { delays: [soon] }", `c.yaml:2: retry.delays[0]: want a time span such as 30s, 1h30m or 7d, not "soon"`)
	check("retry: { delays: [1s, 721h, 30d] }", `c.yaml:2: retry.delays[1]: at most 30d`)
	check("breaker: off")
	check("breaker: { failures: 1, wait: 24h }")
	check("breaker: on", `c.yaml:2: breaker: want off, or { failures: 10, wait: 1m }, not "on"`)
	check("breaker: { failures: 0 }", `c.yaml:2: breaker.failures: must be from 1 to 10000; breaker: off is for none`)
	check("breaker: { failures: 10001, wait: 999ms }", `c.yaml:2: breaker.failures: must be from 1 to 10000; breaker: off is for none`,
		`c.yaml:2: breaker.wait: must be from 1s to 1d`)
	check("breaker: { wait: 25h }", `c.yaml:2: breaker.wait: must be from 1s to 1d`)
	for _, rate := range []string{"5/s", "10/1m", "1/500ms", "10000/1d", "3/h"} {
		check("rate: " + rate)
	}
	for _, rate := range []string{"5", "5/", "/s", "0/s", "-1/s", "10001/s", "1/25h", "1/x", "1.5/s", "5/s/s", "5/0s"} {
		check("rate: "+rate, `c.yaml:2: rate: want calls and a span of time such as 5/s or 10/1m, at most 10000 and 1d, not "`+rate+`"`)
	}
	check("timeout: 0s", `c.yaml:2: timeout: must be longer than 0s and at most 10m`)
	check("timeout: 11m", `c.yaml:2: timeout: must be longer than 0s and at most 10m`)
	check("concurrency: 0", `c.yaml:2: concurrency: must be from 1 to 1000`)
	check("concurrency: 1001", `c.yaml:2: concurrency: must be from 1 to 1000`)
	check("headers: { 'X A': b }", `c.yaml:2: headers.X A: is not a valid header name`)
	check("headers: { host: b }", `c.yaml:2: headers.host: is set by cmstap and can not be given`)
	for _, name := range []string{"X-Cmstap-Event", "x-cmstap-anything", "webhook-id", "Webhook-Timestamp", "Webhook-Signature",
		"X-Contentful-Signature", "x-contentful-signed-headers", "X-Contentful-Timestamp", "X-Hub-Signature-256", "te", "Proxy-Authorization"} {
		check("headers: { "+name+": b }", "c.yaml:2: headers."+name+": is set by cmstap and can not be given")
	}
	check(`headers: { X-A: "a\nb" }`, `c.yaml:2: headers.X-A: the value must be printable ASCII on one line`)
	check(`headers: { X-A: über }`, `c.yaml:2: headers.X-A: the value must be printable ASCII on one line`)
	check("auth: { basic: { password: { value: b } } }", `c.yaml:2: auth.basic.username: is missing`)
	check("auth: { basic: { username: 'a:b' } }", `c.yaml:2: auth.basic.username: must not have a colon`)
	check("headers: { authorization: b }\nauth: { basic: { username: a } }", "c.yaml:2: headers.authorization: auth.basic says already who calls; keep one of them")
	check("signing: { scheme: standard, secret: { env: CMSTAP_NOT_SET } }", "c.yaml:2: signing.secret: the environment variable CMSTAP_NOT_SET is not set")
	check("signing: { scheme: standard, secret: { value: whsec_ } }", `c.yaml:2: signing.secret: must be base64 after whsec_`)
	check("signing: { scheme: own, secret: { value: b } }", `c.yaml:2: signing.scheme: must be standard, contentful or github`)
	check("signing: { scheme: standard }", `c.yaml:2: signing: needs both a scheme and a secret`)
	check("signing: { secret: { value: b } }", `c.yaml:2: signing: needs both a scheme and a secret`)
	check("signing: { scheme: standard, secret: { value: 'whsec_%' } }", `c.yaml:2: signing.secret: must be base64 after whsec_`)
	check("signing: { scheme: standard, secret: { value: a }, previous: { value: whsec_ } }", `c.yaml:2: signing.previous: must be base64 after whsec_`)
	check("signing: { previous: { value: a } }", "c.yaml:2: signing: needs both a scheme and a secret")
	check("signing: { scheme: github, secret: { value: a }, previous: { value: b } }",
		"c.yaml:2: signing.previous: is for the scheme standard: only that carries two signatures; change the secret when the receiver knows the new one")
	check("signing: { scheme: contentful, secret: { value: short } }",
		"c.yaml:2: signing.secret: must have exactly 64 of the characters 0-9 a-z A-Z + / = _ - for the scheme contentful")
	check("signing: { scheme: contentful, secret: { value: " + strings.Repeat("aB3_", 16) + " } }")
	check("auth: { bearer: { value: abc } }")
	check("auth: { bearer: { value: Bearer abc } }", "c.yaml:2: auth.bearer: must be printable ASCII without spaces: the token alone, without the word Bearer")
	check("auth: { basic: { username: a }, bearer: { value: b } }", "c.yaml:2: auth.bearer: auth.basic says already who calls; keep one of them")
	check("auth: { oauth2: { token_url: https://id.example/t, client_id: a, client_secret: { value: b }, scopes: [c, d] } }")
	check("auth: { oauth2: { scopes: a } }",
		"c.yaml:2: auth.oauth2.client_id: is missing", "c.yaml:2: auth.oauth2.client_secret: is missing",
		"c.yaml:2: auth.oauth2.token_url: name the address that gives tokens, for example https://id.example.com/oauth2/token")
	check("auth: { oauth2: { token_url: https://u@id.example/t, client_id: a, client_secret: { value: b } } }",
		"c.yaml:2: auth.oauth2.token_url: must not have a user; give client_id and client_secret")
	check("auth: { oauth2: { token_url: http://169.254.169.254/t, client_id: a, client_secret: { value: b } } }",
		"c.yaml:2: auth.oauth2.token_url: 169.254.169.254 is a cloud's metadata service, which is never called")
	check("proxy: http://127.0.0.1:3128")
	check("proxy: socks5://127.0.0.1:3128", "c.yaml:2: proxy: the address must start with http:// or https://")
	check("tls: { ca: /nowhere }", "c.yaml:2: tls.ca: the file can not be read: open /nowhere: no such file or directory")
	check("tls: { server_name: a }", "c.yaml:2: tls: is for a url that begins with https://")
	for _, twice := range []string{"auth: { basic: { username: a } }", "headers: { Authorization: a }"} {
		_, err := decode("url: http://u:p@x.example\n" + twice)
		if err == nil || !strings.HasSuffix(err.Error(), ": url says already who calls; keep one of them") {
			t.Errorf("%s: %v", twice, err)
		}
	}
	if _, err := decode("timeout: 1s"); err == nil || err.Error() != "c.yaml: url: name the address that is called, for example https://hooks.example.com/build" {
		t.Error(err)
	}
}

func TestRetryConfig(t *testing.T) {
	t.Parallel()
	check := func(text string, on string, delays ...time.Duration) {
		t.Helper()
		e, err := decode("url: http://x.example\n" + text)
		if err != nil {
			t.Error(err)
		}
		got := []time.Duration{}
		for _, delay := range e.Retry.Delays {
			got = append(got, delay.Std())
		}
		if diff := cmp.Diff(append([]time.Duration{}, delays...), got); diff != "" || strings.Join(e.Retry.On, " ") != on {
			t.Errorf("%s: %v %s", text, e.Retry.On, diff)
		}
	}
	const all = "timeout connection 3xx 4xx 5xx"
	standardDelays := []time.Duration{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 10 * time.Hour,
	}
	check("", all, standardDelays...)
	check("retry:", all, standardDelays...)
	check("retry: standard", all, standardDelays...)
	check("retry: { delays: [5s, 1m] }", all, 5*time.Second, time.Minute)
	check("retry: contentful", "connection 429 5xx", 30*time.Second, 30*time.Second)
	check("retry: datocms", all, 2*time.Minute, 6*time.Minute, 30*time.Minute, time.Hour, 5*time.Hour, 24*time.Hour, 48*time.Hour)
	check("retry: contentstack", all, 5*time.Second, 25*time.Second, 125*time.Second, 625*time.Second)
	check("retry: { on: [429, 5xx] }", "429 5xx", standardDelays...)
	check("retry: { delays: [] }", all)
	check("retry: { delays: [1s], on: [timeout] }", "timeout", time.Second)
}

func TestSchedulesInShort(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"standard": "8 attempts over 1d3h35m5s", "contentful": "3 attempts over 1m",
		"datocms": "8 attempts over 3d6h38m", "contentstack": "5 attempts over 13m",
	} {
		if got := presets[name].String(); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	check := func(text string, want ...string) {
		t.Helper()
		var e Endpoint
		var found setting.Problems
		e.SetDefaults()
		err := setting.Decode("c.yaml", []byte("url: http://x.example\n"+text), &e, func(c setting.Check) {
			e.Validate(c)
			e.Warn(c)
			found = c.Warnings()
		})
		if diff := cmp.Diff(strings.Join(want, "\n"), found.Error()); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", text, err, diff)
		}
	}
	check("")
	check("timeout: 1m")
	check("timeout: 61s", "c.yaml:2: timeout: a receiver that hangs holds each call for 1m1s; have it answer first and work afterwards, and give 1m or less")
	const once = "a call is made once: what fails is lost; leave retry out for 8 attempts over 1d3h35m5s"
	check("retry: { delays: [] }", "c.yaml:2: retry.delays: "+once)
	check("retry:\n  delays: []\n  on: []", "c.yaml:3: retry.delays: "+once)
	check("retry: { delays: [1s, 10s, 49s] }")
	check("retry: { delays: [1s, 10s, 48s] }", "c.yaml:2: retry.delays: the last attempt comes 59s after the first: "+
		"a receiver that is away for a minute loses events; end with longer waits, for example 1m, 10m, 1h")
	check("retry: { delays: [100ms, 999ms, 1s, 1h] }")
	check("retry: { delays: [100ms, 100ms, 999ms, 1h] }",
		"c.yaml:2: retry.delays: 3 waits are under 1s: they load a receiver that is in trouble already; let the waits grow")
	check("retry: { delays: [100ms, 100ms, 100ms] }", "c.yaml:2: retry.delays: the last attempt comes 300ms after the first: "+
		"a receiver that is away for a minute loses events; end with longer waits, for example 1m, 10m, 1h")
	check("signing: { scheme: standard, secret: { value: 123456789012345678901234 } }")
	check("signing: { scheme: standard, secret: { value: whsec_AAEC } }",
		"c.yaml:2: signing.secret: the key has 3 bytes, and Standard Webhooks asks for 24 at least; make one with: echo whsec_$(openssl rand -base64 24)")
	const final = ": such a failure ends the delivery at once; add it, or leave on out"
	check("retry: { on: [timeout, connection, 429, 503] }")
	check("retry: { on: [timeout, connection, 4xx, 5xx] }")
	check("retry: datocms")
	check("retry: contentstack")
	check("retry: contentful", "c.yaml:2: retry: contentful does not name timeout, as the vendor's own webhooks do not: "+
		"such a failure ends the delivery at once; leave retry out for 8 attempts over 1d3h35m5s")
	check("retry: { on: [4xx, 5xx] }", "c.yaml:2: retry.on: does not name timeout, connection"+final)
	check("retry:\n  on: [timeout, connection, 404]", "c.yaml:3: retry.on: does not name 429, 5xx"+final)
}
