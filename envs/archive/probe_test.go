package archive

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestProbe(t *testing.T) {
	silent := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead {
			t.Errorf("asked with %s", r.Method)
		}
		switch r.URL.Path {
		case "/here":
		case "/gone":
			w.WriteHeader(http.StatusGone)
		case "/broken":
			w.WriteHeader(http.StatusInternalServerError)
		case "/silent":
			<-silent
		default:
			http.NotFound(w, r)
		}
	}))
	defer srv.Close()
	defer close(silent)
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	local := filepath.Join(t.TempDir(), "x.deb")
	if err := os.WriteFile(local, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		url  []string
		want Presence
	}{
		{[]string{srv.URL + "/here"}, Present},
		{[]string{srv.URL + "/nowhere"}, Absent},
		{[]string{srv.URL + "/gone"}, Absent},
		{[]string{srv.URL + "/broken"}, Unknown},
		{[]string{down.URL + "/here"}, Unknown},
		{[]string{"file://" + local}, Present},
		{[]string{"file://" + local + "x"}, Absent},
		{nil, Unknown},
		{[]string{srv.URL + "/silent"}, Unknown},
	}
	var cands []Candidate
	for _, c := range cases {
		cands = append(cands, Candidate{URLs: c.url})
	}
	// One at a time would do; a server that says nothing must not hold up the others.
	got, err := Probe(context.Background(), cands, FetchOptions{Stall: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		if got[i] != c.want && c.want != Unknown {
			t.Errorf("%v: got %d, want %d", c.url, got[i], c.want)
		}
		if c.want == Unknown && got[i] != Unknown {
			t.Errorf("%v: got %d from a server that doesn't say", c.url, got[i])
		}
	}
	stop, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Probe(stop, cands, FetchOptions{}); err == nil {
		t.Error("a probe that was interrupted answers")
	}
}
