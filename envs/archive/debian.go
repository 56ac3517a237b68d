package archive

import (
	"context"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// Debian finds package files for a host of Debian's family (dpkg and apt).
type Debian struct {
	Host  snapshot.Host
	Store *store.Store // takes the signed files that prove something, and the indexes
	// Architecture is the host's native one: "amd64".
	Architecture string
	Previous     *lock.Lock // the release before, or nil
	// Mirrors are further addresses (http, https, file) of an archive, by the URI that
	// the host names it by, without a slash at the end.
	Mirrors map[string][]string
	Pools   []Pool
	// Snapshots are addresses (http, https) of snapshot archives: they keep every file
	// that Debian's archives ever had. See CheckSnapshots.
	Snapshots []string
	// Indexed asks snapshot archives for nothing but what a signed index names: where
	// there are no files of a host to compare another file with.
	Indexed bool
	Offline bool // don't ask the archives themselves
	// Fresh asks nobody but the archives themselves: for files that are gone from
	// where an older index had them, and may have moved to another suite.
	Fresh bool
	Fetch FetchOptions
}

// Result is what was found for a host.
type Result struct {
	// Candidates are in the order of the places searched; a package that has none was
	// found nowhere, one that has several has to be proved.
	Candidates []Candidate
	// Archives are those that the candidates name, each once. Their signed files are
	// in the store, but for those taken from the lock of the release before.
	Archives []lock.Archive
	Problems []*Problem // archives that could not be searched, and why
}

// Locate looks for the files of packages, in one place after the other until each
// is found. An archive that can't be searched is a Problem and no error.
func (d Debian) Locate(ctx context.Context, want []Want) (*Result, error) {
	a := newApt(d)
	places := chain{
		previous{d}, // what was proved once stays proved
		lists{a},    // indexes that the host's own apt has fetched
		current{a},  // indexes that the archives serve today
		cache{a},    // files that the host's own apt has fetched
		pools{a},    // files that somebody has put beside
		old{apt: a}, // every file that an archive ever had
	}
	if d.Fresh {
		places = chain{current{a}}
	}
	found, err := places.Locate(ctx, want)
	if err != nil {
		return nil, err
	}
	found.Candidates = distinct(found.Candidates)
	if err := (cache{a}).mark(ctx, found.Candidates); err != nil {
		return nil, err
	}
	for i, c := range found.Candidates {
		for _, p := range d.Pools {
			found.Candidates[i].Offered = append(found.Candidates[i].Offered, p.offers(c)...)
		}
	}
	var before []lock.Archive
	if d.Previous != nil {
		before = d.Previous.Archives
	}
	return &Result{
		Archives:   nameArchives(found.Candidates, before),
		Candidates: found.Candidates,
		Problems:   found.Problems,
	}, nil
}
