package archive

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Presence is what an archive says of a file without sending it.
type Presence int

// The answers: a server that can't be asked says nothing.
const (
	Unknown Presence = iota
	Present
	Absent
)

// Probe asks whether the candidates' first addresses still have the files; index
// files name more than a pool holds. The answers are in the order of cands.
func Probe(ctx context.Context, cands []Candidate, opts FetchOptions) ([]Presence, error) {
	opts = opts.withDefaults()
	answers := make([]Presence, len(cands))
	dead := hostsDown{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * opts.Parallel) // an answer is a few bytes: it is the round trip that costs
	for i, c := range cands {
		if len(c.URLs) == 0 {
			continue
		}
		g.Go(func() error {
			asking, done := context.WithTimeout(ctx, opts.Stall)
			defer done()
			answers[i] = probe(asking, opts.Client, c.URLs[0], &dead)
			return ctx.Err()
		})
	}
	return answers, g.Wait()
}

// hostsDown are servers that couldn't be reached, be it through a proxy or in time:
// they aren't asked again.
type hostsDown struct{ m sync.Map }

func probe(ctx context.Context, client *http.Client, address string, dead *hostsDown) Presence {
	u, err := url.Parse(address)
	if err != nil {
		return Absent
	}
	if u.Scheme == "file" {
		if _, err := os.Stat(u.Path); err != nil {
			return Absent
		}
		return Present
	}
	if _, down := dead.m.Load(u.Host); down {
		return Unknown
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		return Absent
	}
	resp, err := client.Do(req)
	if err != nil {
		dead.m.Store(u.Host, true)
		return Unknown
	}
	resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		return Absent
	case resp.StatusCode < 300:
		return Present
	default:
		return Unknown
	}
}
