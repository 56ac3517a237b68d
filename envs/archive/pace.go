package archive

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The pace of a server that many share. A rate above its limit costs more than a
// slow one: such servers answer nothing for a minute, then for two.
const (
	firstPace   = 8.0 // requests a second
	leastPace   = 0.2
	mostPace    = 16.0
	slowRaise   = 0.25 / 60 // a second, in each second without a refusal
	afterLimit  = 0.05      // for each good answer, back to nearly what was refused
	afterOutage = 0.25
	shutOut     = 20 * time.Second // a limit that punishes for so long isn't tried again soon
	maxPause    = 5 * time.Minute
	patience    = 15 * time.Minute // without one good answer
	noAnswer    = time.Minute      // the same for a server that was never reached
	maxRefusals = 20               // of one request, while others get through
)

// Pacer asks certain servers no faster than they like: at a rate that is halved
// when one refuses and raised slowly, with pauses for all requests together. Other
// servers, and those of a nil *Pacer, are asked at will.
type Pacer struct{ servers map[string]*pace }

// NewPacer paces the servers of these addresses.
func NewPacer(urls []string) *Pacer {
	p := &Pacer{servers: make(map[string]*pace)}
	for _, u := range urls {
		p.servers[hostOf(u)] = &pace{name: hostOf(u), limit: rate.NewLimiter(firstPace, 1),
			ceiling: firstPace, raise: slowRaise, turn: make(chan struct{}, 1), changed: make(chan struct{})}
	}
	return p
}

func (p *Pacer) server(url string) *pace {
	if p == nil {
		return nil
	}
	return p.servers[hostOf(url)]
}

// PaceError says that a server was given up: it refused, or could not be reached,
// for too long.
type PaceError struct {
	Server   string
	Answered bool // it answered before, or says itself that it can't now
	Err      error
}

func (e *PaceError) Error() string { return fmt.Sprintf("giving up on %s: %v", e.Server, e.Err) }
func (e *PaceError) Unwrap() error { return e.Err }

// pace is the state of one server.
type pace struct {
	name  string
	limit *rate.Limiter
	turn  chan struct{} // whoever waits for the limiter

	mu      sync.Mutex
	ceiling float64       // the rate is raised quickly up to here
	step    float64       // by so much for a good answer
	raise   float64       // and beyond by so much in a second
	refusal time.Time     // when the server began to refuse for its limit; zero while it doesn't
	cut     time.Time     // the rate was halved: what began before says nothing new
	until   time.Time     // nobody asks before
	bad     int           // pauses in a row; while there are any, one request goes at a time
	trying  bool          // it is under way
	cuts    int           // lost connections in a row
	lost    time.Time     // when the last one of them was counted
	good    int           // answers
	reached bool          // it ever answered anything
	since   time.Time     // of the last good answer, or the first request
	gone    *PaceError    // it was given up
	changed chan struct{} // closed when waiting may be over
}

// visit is one request.
type visit struct {
	began time.Time
	good  int  // answers that the server had given when it began
	trial bool // the only one at its time
}

// begin waits until a request may be made. Only one waits for the limiter: it would
// let those go together that reserved their time at different rates.
func (s *pace) begin(ctx context.Context) (visit, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return visit{}, context.Cause(ctx)
	}
	for {
		if err := s.givenUp(); err != nil { // at once
			return visit{}, err
		}
		if err := s.limit.Wait(ctx); err != nil {
			if ctx.Err() != nil {
				return visit{}, context.Cause(ctx)
			}
			return visit{}, err
		}
		v, wait, changed := s.enter()
		if changed == nil {
			return v, s.givenUp() // perhaps in the meantime
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return visit{}, context.Cause(ctx)
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (s *pace) givenUp() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone != nil {
		return s.gone
	}
	return nil
}

// enter lets a request through, or says how long to wait at most and what ends that
// earlier. It also lets it through where the server was given up.
func (s *pace) enter() (v visit, wait time.Duration, changed chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.since.IsZero() {
		s.since = now
	}
	switch {
	case s.gone != nil:
		return v, 0, nil
	case now.Before(s.until):
		return v, s.until.Sub(now), s.changed
	case s.bad > 0 && s.trying:
		return v, maxPause, s.changed
	}
	s.trying = s.bad > 0
	return visit{began: now, good: s.good, trial: s.trying}, 0, nil
}

// outcome is what a request that failed is to do.
type outcome struct {
	alone bool   // the pause is this request's own
	count bool   // the server answers others: the failure is this request's
	note  string // for people
	err   error  // nothing more is to be had
}

// end takes what came of a request.
func (s *pace) end(ctx context.Context, v visit, err error) (o outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.trial {
		s.trying = false
	}
	defer s.wake()
	var status *StatusError
	now := time.Now()
	switch {
	case err != nil && ctx.Err() != nil:
		return o
	case errors.As(err, &status) && isRefusal(status.Code):
		s.reached = true
		o.note = s.refused(v, now, status)
	case errors.As(err, new(*brief)):
		s.reached = s.reached || status != nil
		o.alone = s.disturbed(v, now)
	default:
		s.answered(v, now)
		return o
	}
	o.count = s.good > v.good
	limit := patience
	if !s.reached {
		limit = noAnswer
	}
	if now.Sub(s.since) > limit || s.until.Sub(now) > patience {
		s.gone = &PaceError{Server: s.name, Answered: s.reached, Err: err}
		o.err = s.gone
	}
	return o
}

func isRefusal(code int) bool {
	return code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable
}

func (s *pace) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// refused halves the rate, once for all requests that were under way, and makes
// all of them wait.
func (s *pace) refused(v visit, now time.Time, status *StatusError) string {
	if v.began.Before(s.cut) { // of the same moment as the one before
		s.pauseUntil(now.Add(status.after))
		return ""
	}
	first := time.Second
	if status.Code == http.StatusTooManyRequests && status.after == 0 {
		first = 10 * time.Second
	}
	keep, step := 1.0, afterOutage
	if status.Code == http.StatusTooManyRequests {
		keep, step = 0.9, afterLimit
		if s.bad == 0 {
			s.refusal = now
		}
	}
	wait := s.slow(now, keep, step, first, status.after)
	return fmt.Sprintf("%s answered %d: waiting %s, then asking %.1f times a second",
		s.name, status.Code, wait.Round(time.Second/10), float64(s.limit.Limit()))
}

// disturbed takes a connection that was lost. One alone means little; when the next
// try fails too, the server may have shut us out.
func (s *pace) disturbed(v visit, now time.Time) (alone bool) {
	if v.began.Before(s.lost) {
		return true
	}
	s.lost = now
	if s.cuts++; s.cuts == 1 {
		return true
	}
	s.slow(now, 1, afterOutage, time.Second, 0)
	return false
}

// slow halves the rate, where that isn't what the pause before was for, and begins
// a pause, each longer than the one before.
func (s *pace) slow(now time.Time, keep, step float64, first, asked time.Duration) time.Duration {
	if s.bad == 0 {
		was := float64(s.limit.Limit())
		s.ceiling, s.step = max(min(s.ceiling, was)*keep, leastPace), step
		s.limit.SetLimit(rate.Limit(max(was/2, leastPace)))
	}
	s.cut = now
	wait := min(first<<min(s.bad, 16), maxPause)
	wait = max(asked, wait+rand.N(wait/8+1)) // machines shouldn't come back all at once
	s.bad++
	s.pauseUntil(now.Add(wait))
	return wait
}

func (s *pace) pauseUntil(t time.Time) {
	if t.After(s.until) {
		s.until = t
	}
}

// answered raises the rate: quickly to what was fine before, then slowly. After it
// was shut out for its rate, only slowly, and more so each time.
func (s *pace) answered(v visit, now time.Time) {
	r := float64(s.limit.Limit())
	if !v.began.Before(s.cut) {
		if !s.refusal.IsZero() && v.began.Sub(s.refusal) >= shutOut {
			s.ceiling, s.raise = r, s.raise/2
		}
		s.refusal = time.Time{}
		if r < s.ceiling {
			r = min(r+s.step, s.ceiling)
		} else {
			r += s.raise / r
			s.ceiling = r
		}
		s.limit.SetLimit(rate.Limit(min(r, mostPace)))
		s.bad = 0
	}
	s.good++
	s.cuts, s.since, s.reached = 0, now, true
}
