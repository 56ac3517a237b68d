package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stead-env/stead/envs/archive/archivetest"
)

// simulated is a server without a network, for a simulated clock. It takes its time
// to answer, shuts clients out that ask too often, and does as its faults say.
type simulated struct {
	handler http.Handler
	limit   int // requests in any second; 0: as many as come
	// punish is how long it answers nothing but 429 at first, and twice as long each
	// further time.
	punish time.Duration
	after  bool // with Retry-After
	fault  func(n int, r *http.Request) (*http.Response, error)

	mu      sync.Mutex
	asked   []time.Time
	served  map[string]int // good answers, by path
	banned  time.Time
	bans    int
	refused int
	random  *rand.Rand
}

func newSimulated(h http.Handler) *simulated {
	return &simulated{handler: h, served: map[string]int{}, random: rand.New(rand.NewPCG(1, 2))}
}

func (s *simulated) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	way := time.Duration(20+s.random.IntN(60)) * time.Millisecond
	s.mu.Unlock()
	if err := sleep(r.Context(), way); err != nil {
		return nil, err
	}
	resp, err := s.answer(r)
	if e := sleep(r.Context(), way); e != nil {
		return nil, e
	}
	return resp, err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (s *simulated) answer(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.asked = append(s.asked, now)
	recent := 0
	for i := len(s.asked) - 1; i >= 0 && now.Sub(s.asked[i]) < time.Second; i-- {
		recent++
	}
	if s.limit > 0 && recent > s.limit && now.After(s.banned) {
		s.banned = now.Add(s.punish << s.bans)
		s.bans++
	}
	if now.Before(s.banned) {
		s.refused++
		resp := respond(http.StatusTooManyRequests)
		if s.after {
			resp.Header.Set("Retry-After", fmt.Sprint(int(s.banned.Sub(now)/time.Second)+1))
		}
		return resp, nil
	}
	if s.fault != nil {
		if resp, err := s.fault(len(s.asked), r); resp != nil || err != nil {
			return resp, err
		}
	}
	rec := httptest.NewRecorder()
	s.handler.ServeHTTP(rec, r)
	s.served[r.URL.Path]++
	return rec.Result(), nil
}

func respond(code int) *http.Response {
	return &http.Response{StatusCode: code, Header: http.Header{}, Body: http.NoBody, ContentLength: 0}
}

// cutAnswer breaks off in the middle.
func cutAnswer() *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, ContentLength: -1,
		Body: io.NopCloser(io.MultiReader(strings.NewReader(`{"result": [`), brokenReader{}))}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// manyPackages are 1,500 packages of which the snapshots have all but every tenth.
func manyPackages() (http.Handler, []Want) {
	s, want := archivetest.NewSnapshots(), []Want(nil)
	for i := range 1500 {
		d := newDeb(fmt.Sprintf("package%04d", i), "1:2.0+dfsg~rc1-3", "amd64")
		want = append(want, d.Want)
		if i%10 != 0 {
			s.Has("debian", written, d.inPool())
		}
	}
	return s, want
}

// lookAll makes all look-ups at a simulated server, and says how long it took by its
// clock.
func lookAll(t *testing.T, s *simulated, want []Want, d Debian) time.Duration {
	t.Helper()
	d.Snapshots = []string{"http://snapshot.mirror.example"}
	d.Fetch.Client = &http.Client{Transport: s}
	o, begun := old{apt: newApt(d)}, time.Now()
	all, err := o.lookUp(t.Context(), d.Snapshots[0], want)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1350 {
		t.Errorf("%d packages were found, and the server has 1350", len(all))
	}
	for _, f := range all {
		if len(f.files) != 1 || f.files[0].size == 0 || len(f.files[0].places) != 1 {
			t.Errorf("%s: %+v", f.Name, f.files)
		}
	}
	took := time.Since(begun)
	t.Logf("%d look-ups took %s in %d requests, %d of them refused; shut out %d times; last pace %.1f/s",
		len(want), took.Round(time.Second), len(s.asked), s.refused, s.bans, float64(o.Fetch.Pacer.server(d.Snapshots[0]).limit.Limit()))
	return took
}

// every gives a fault to each nth request.
func every(n int, resp func() (*http.Response, error)) func(int, *http.Request) (*http.Response, error) {
	return func(i int, _ *http.Request) (*http.Response, error) {
		if i%n == n-1 {
			return resp()
		}
		return nil, nil
	}
}

var faults = []struct {
	name  string
	limit int
	after bool
	fault func(n int, r *http.Request) (*http.Response, error)
	most  time.Duration
}{
	{"a limit of ten a second", 10, false, nil, 4 * time.Minute},
	{"the same, saying how long", 10, true, nil, 4 * time.Minute},
	{"a limit of ten, and 503 now and then", 10, false, every(200, func() (*http.Response, error) {
		return respond(http.StatusServiceUnavailable), nil
	}), 4 * time.Minute},
	{"a limit of ten, and a cut line now and then", 10, false, every(40, func() (*http.Response, error) {
		return nil, syscall.ECONNRESET
	}), 4 * time.Minute},
	{"answers cut in the middle", 10, false, every(40, func() (*http.Response, error) { return cutAnswer(), nil }), 4 * time.Minute},
	{"429 for no reason", 0, false, every(150, func() (*http.Response, error) {
		r := respond(http.StatusTooManyRequests)
		r.Header.Set("Retry-After", time.Now().Add(3*time.Second).UTC().Format(http.TimeFormat))
		return r, nil
	}), time.Hour},
	{"a lower limit", 5, false, nil, time.Hour},
	{"a much lower limit", 2, true, nil, time.Hour},
	{"all at once", 10, false, func(n int, r *http.Request) (*http.Response, error) {
		switch n % 31 {
		case 7:
			return respond(http.StatusServiceUnavailable), nil
		case 13:
			return nil, io.EOF
		case 19:
			return cutAnswer(), nil
		}
		return nil, nil
	}, time.Hour},
}

// 1,500 look-ups at a server that allows ten a second and punishes more with a minute
// of 429, then two: none is lost, whatever it answers.
func TestPace(t *testing.T) {
	srv, want := manyPackages()
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			st := newStore(t)
			synctest.Test(t, func(t *testing.T) {
				s := newSimulated(srv)
				s.limit, s.punish, s.after, s.fault = tt.limit, time.Minute, tt.after, tt.fault
				if took := lookAll(t, s, want, Debian{Store: st}); took > tt.most {
					t.Errorf("it took %s, and %s is the most", took, tt.most)
				}
				for path, n := range s.served {
					if n > 1 {
						t.Errorf("%s was answered %d times", path, n)
					}
				}
			})
		})
	}
}

// A server that shuts everybody out for some minutes, by answers or by not answering,
// loses nothing either.
func TestPaceOutage(t *testing.T) {
	srv, want := manyPackages()
	for name, fault := range map[string]func() (*http.Response, error){
		"429":   func() (*http.Response, error) { return respond(http.StatusTooManyRequests), nil },
		"503":   func() (*http.Response, error) { return respond(http.StatusServiceUnavailable), nil },
		"reset": func() (*http.Response, error) { return nil, syscall.ECONNRESET },
	} {
		t.Run(name, func(t *testing.T) {
			st := newStore(t)
			synctest.Test(t, func(t *testing.T) {
				s, begun := newSimulated(srv), time.Now()
				s.fault = func(int, *http.Request) (*http.Response, error) {
					if out := time.Since(begun); out > time.Minute && out < 5*time.Minute {
						s.refused++
						return fault()
					}
					return nil, nil
				}
				lookAll(t, s, want, Debian{Store: st})
				if s.refused > 40 {
					t.Errorf("it was asked %d times while it was out", s.refused)
				}
			})
		})
	}
}

// What was answered isn't asked again: a search that was interrupted goes on.
func TestPaceResumes(t *testing.T) {
	srv, want := manyPackages()
	st := newStore(t)
	synctest.Test(t, func(t *testing.T) {
		s := newSimulated(srv)
		d := Debian{Store: st, Snapshots: []string{"http://snapshot.mirror.example"},
			Fetch: FetchOptions{Client: &http.Client{Transport: s}}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := (old{apt: newApt(d)}).lookUp(ctx, d.Snapshots[0], want); err == nil {
			t.Fatal("an interrupted search ends well")
		}
		first := len(s.asked)
		if first < 300 || first > 700 {
			t.Errorf("%d requests in a minute", first)
		}
		lookAll(t, s, want, Debian{Store: st})
		if len(s.asked) > 1500+lookUps {
			t.Errorf("%d requests for 1500 look-ups, %d before the break", len(s.asked), first)
		}
		total := len(s.asked)
		lookAll(t, s, want, Debian{Store: st})
		if len(s.asked) != total {
			t.Errorf("answers were asked for again: %d", len(s.asked)-total)
		}
		time.Sleep(25 * time.Hour) // what wasn't there may have come
		lookAll(t, s, want, Debian{Store: st})
		if n := len(s.asked) - total; n != 150 {
			t.Errorf("%d look-ups were made again after a day, and 150 had no answer", n)
		}
	})
}

// A server that never answers is given up soon, one that stops answering later.
func TestPaceGivesUp(t *testing.T) {
	srv, want := manyPackages()
	for _, tt := range []struct {
		name     string
		until    time.Duration
		most     time.Duration
		answered bool
		fault    func() (*http.Response, error)
	}{
		{"never reached", 0, 3 * time.Minute, false, func() (*http.Response, error) { return nil, syscall.ECONNREFUSED }},
		{"gone for good", time.Minute, 30 * time.Minute, true, func() (*http.Response, error) { return nil, syscall.ECONNREFUSED }},
		{"refuses for good", time.Minute, 30 * time.Minute, true, func() (*http.Response, error) {
			return respond(http.StatusServiceUnavailable), nil
		}},
		{"asks to come back tomorrow", 0, time.Minute, true, func() (*http.Response, error) {
			r := respond(http.StatusTooManyRequests)
			r.Header.Set("Retry-After", "86400")
			return r, nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st, h := newStore(t), newHost(t)
			synctest.Test(t, func(t *testing.T) {
				s, begun := newSimulated(srv), time.Now()
				s.fault = func(int, *http.Request) (*http.Response, error) {
					if time.Since(begun) >= tt.until {
						return tt.fault()
					}
					return nil, nil
				}
				var n notes
				d := Debian{Store: st, Host: h, Snapshots: []string{"http://snapshot.mirror.example"}, Architecture: "amd64",
					Fetch: FetchOptions{Client: &http.Client{Transport: s}, Progress: n.progress}}
				found, err := old{apt: newApt(d)}.Locate(t.Context(), want)
				if err != nil {
					t.Fatal(err)
				}
				var gone *PaceError
				if len(found.Problems) != 1 || !errors.As(found.Problems[0], &gone) || found.Problems[0].Broken != tt.answered {
					t.Errorf("problems are %+v", found.Problems)
				}
				if took := time.Since(begun); took > tt.most {
					t.Errorf("it was given up after %s", took)
				}
				if strings.Contains(n.String(), "%!") || !bytes.Contains([]byte(n.String()), []byte("giving up")) {
					t.Errorf("noted: %s", n.String())
				}
			})
		})
	}
}
