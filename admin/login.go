package admin

import (
	"net/http"
	"net/url"
	"time"
)

// maxForm is the size of the largest form that is read, in bytes.
const maxForm = 64 << 10

// login shows the form of the login, and takes it in.
func (p *pages) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	next := local(r.FormValue("next"))
	switch {
	case !p.guard.config.Token.IsSet():
		http.Redirect(w, r, next, http.StatusSeeOther)
	case r.Method != http.MethodPost:
		p.askToken(w, http.StatusOK, "", next)
	case !p.guard.isToken(r, r.PostFormValue("token")):
		p.askToken(w, http.StatusUnauthorized, "That is not the token.", next)
	default:
		setCookie(w, r, p.guard.sessions.begin(time.Now()), int(sessionLife.Seconds()))
		http.Redirect(w, r, next, http.StatusSeeOther)
	}
}

func (p *pages) askToken(w http.ResponseWriter, status int, wrong, next string) {
	p.show(w, page{name: "login", status: status, Title: "Log in", Data: map[string]string{"Wrong": wrong, "Next": next}})
}

// logout ends the session, here and in the browser.
func (p *pages) logout(w http.ResponseWriter, r *http.Request) {
	p.guard.sessions.end(r)
	setCookie(w, r, "", -1)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// setCookie sets the session's cookie for so many seconds. It is Secure if the
// browser speaks TLS, to here or to a proxy in front; a header that lies makes a
// cookie that the browser keeps to itself.
func setCookie(w http.ResponseWriter, r *http.Request, value string, seconds int) {
	http.SetCookie(w, &http.Cookie{
		Name: sessionCookie, Value: value, Path: "/", MaxAge: seconds, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https",
	})
}

// local is where to go after the login: a page of this listener, whatever the link
// to the login said.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.Opaque != "" || len(u.Path) == 0 || u.Path[0] != '/' {
		return "/"
	}
	return u.RequestURI()
}
