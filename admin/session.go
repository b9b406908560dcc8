package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"
)

// How long a login lasts, and how many there are at most: a further one ends the
// oldest.
const (
	sessionLife = 12 * time.Hour
	maxSessions = 100
)

// sessionCookie names the cookie. Its value is random and says nothing of the
// token.
const sessionCookie = "cmstap_session"

// sessions are the logins of browsers. Only the hash of a cookie's value is kept.
type sessions struct {
	mu   sync.Mutex
	ends map[[sha256.Size]byte]time.Time
}

func newSessions() *sessions { return &sessions{ends: map[[sha256.Size]byte]time.Time{}} }

// begin returns the value of a new session's cookie: 26 letters and digits with
// 128 random bits at least.
func (s *sessions) begin(now time.Time) string {
	value := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, end := range s.ends {
		if !now.Before(end) {
			delete(s.ends, key)
		}
	}
	if len(s.ends) >= maxSessions {
		delete(s.ends, s.oldest())
	}
	s.ends[sha256.Sum256([]byte(value))] = now.Add(sessionLife)
	return value
}

func (s *sessions) oldest() (oldest [sha256.Size]byte) {
	var first time.Time
	for key, end := range s.ends {
		if first.IsZero() || end.Before(first) {
			oldest, first = key, end
		}
	}
	return oldest
}

// has tells whether a request comes from a browser that logged in.
func (s *sessions) has(r *http.Request, now time.Time) bool {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Before(s.ends[sha256.Sum256([]byte(cookie.Value))])
}

// end forgets the session of a request.
func (s *sessions) end(r *http.Request) {
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		s.mu.Lock()
		delete(s.ends, sha256.Sum256([]byte(cookie.Value)))
		s.mu.Unlock()
	}
}
