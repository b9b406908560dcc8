package sender

import (
	"context"
	"fmt"

	"cmstap/event"
)

// Try makes one call of a webhook with an event that nobody else gets, the way of
// any call. It is not repeated, and neither the breaker nor the rate learns of it.
// Found is false if there is no such webhook. The error says that the call could
// not be made because of a fault in cmstap.
func (s *Sender) Try(ctx context.Context, webhook string, e *event.Event) (end event.Settlement, found bool, err error) {
	for _, l := range s.lines {
		if l.webhook.Name == webhook {
			end, err = l.try(ctx, e)
			return end, true, err
		}
	}
	return end, false, nil
}

func (l *line) try(ctx context.Context, e *event.Event) (end event.Settlement, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("a fault in cmstap: %v", fault)
		}
	}()
	a := l.send(ctx, bundle{{Want: event.Want{Webhook: l.webhook.Name}, Event: e, Redelivery: event.Trial}})
	end = l.webhook.Endpoint.Retry.judge(a, 0)
	if end.Result != event.Delivered {
		end.Result = event.GiveUp
	}
	return end, nil
}
