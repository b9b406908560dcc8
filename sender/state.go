package sender

// BreakerStates are the states that a breaker may be in.
var BreakerStates = []string{closed, opened, halfOpen}

// Breakers returns the state of each webhook's breaker by the webhook's name. One
// that is open stays so until a delivery waits after its time.
func (s *Sender) Breakers() map[string]string {
	states := map[string]string{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lines {
		l.gate.mu.Lock()
		states[l.webhook.Name] = l.gate.breaker.state
		l.gate.mu.Unlock()
	}
	return states
}
