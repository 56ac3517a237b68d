package envs

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/archive"
	"github.com/stead-env/stead/envs/lock"
)

// Snapshots are the addresses of snapshot archives, which keep every file that a
// distribution's archives ever had: fleet.toml's, then those of
// $STEAD_SNAPSHOT_ARCHIVE. Without one none is asked.
func (f *Fleet) Snapshots() ([]string, error) {
	var all []string
	for _, address := range slices.Concat(f.config.Snapshots, strings.Fields(os.Getenv("STEAD_SNAPSHOT_ARCHIVE"))) {
		if err := archive.CheckSnapshots(address); err != nil {
			return nil, err
		}
		if address = strings.TrimRight(address, "/"); !slices.Contains(all, address) {
			all = append(all, address)
		}
	}
	return all, nil
}

// pacer paces snapshot archives: those given, and those that a lock names.
func pacer(snapshots []string, l *lock.Lock) *archive.Pacer {
	servers := slices.Clone(snapshots)
	if l != nil {
		for _, k := range inSnapshots(l) {
			servers = append(servers, archiveOf(l, k).URI)
		}
	}
	return archive.NewPacer(servers)
}

func archiveOf(l *lock.Lock, k lock.Package) lock.Archive {
	for _, a := range l.Archives {
		if a.Name == k.Archive {
			return a
		}
	}
	return lock.Archive{}
}

// inSnapshots are the packages that a lock has from a snapshot archive.
func inSnapshots(l *lock.Lock) (packages []lock.Package) {
	for _, k := range l.Packages {
		if k.Archive != "" && archive.IsSnapshot(archiveOf(l, k), k.Path) {
			packages = append(packages, k)
		}
	}
	return packages
}

// pace finds the snapshot archives, which want to be asked slowly by all of a run.
func (s *snapshotter) pace() (err error) {
	s.snapshots, err = s.cfg.Fleet.Snapshots()
	s.pacer = pacer(s.snapshots, s.previous)
	return err
}

func (s *snapshotter) fetch() archive.FetchOptions {
	return archive.FetchOptions{Progress: s.cfg.Progress, Pacer: s.pacer}
}

// rehome looks in snapshot archives for files that their own archive has dropped, so
// that the fleet needn't keep them. What the release before kept stays where it is:
// an unchanged host makes no release. It adds to found, and takes from absent.
func (s *snapshotter) rehome(ctx context.Context, debian archive.Debian, candidates []candidate,
	found *archive.Result, absent map[digest.Digest]error) ([]candidate, error) {
	held := map[archive.Want]bool{}
	for _, c := range candidates {
		held[c.Want] = held[c.Want] || c.held && absent[c.Digest()] == nil
	}
	var ask []archive.Candidate
	for _, c := range candidates {
		if !held[c.Want] && !c.before {
			ask = append(ask, c.Candidate)
		}
	}
	if len(ask) == 0 || len(debian.Snapshots) == 0 {
		return candidates, nil
	}
	moved, err := debian.InSnapshots(ctx, ask, found.Archives)
	if err != nil {
		return nil, err
	}
	found.Archives = append(found.Archives, moved.Archives...)
	found.Problems = append(found.Problems, moved.Problems...)
	var first []candidate
	for _, c := range moved.Candidates {
		delete(absent, c.Digest())
		first = append(first, candidate{Candidate: c, held: true})
	}
	return append(first, candidates...), nil
}

// Forecast says what a release stands on that archives don't hold any more.
type Forecast struct {
	// Nowhere are packages that no archive has: they were built from the host's files,
	// and are lost with the fleet's blobs.
	Nowhere []string `json:"nowhere"`
	// Fleet are packages whose file is the archive's, and which only the fleet has: they
	// are lost with its blobs, too.
	Fleet []string `json:"fleet"`
	// Snapshots are packages that only a snapshot archive has.
	Snapshots []string `json:"snapshots"`
	// Hint says what may have more of them; "" where nothing is known to.
	Hint string `json:"hint,omitempty"`
}

func (s *snapshotter) forecast(l *lock.Lock) Forecast {
	f := Forecast{Nowhere: []string{}, Fleet: []string{}, Snapshots: []string{}}
	kept := map[digest.Digest]bool{}
	for _, d := range s.keep {
		kept[d] = true
	}
	for _, k := range l.Packages {
		switch {
		case k.Proof == lock.Repacked:
			f.Nowhere = append(f.Nowhere, k.Name)
		case k.Proof == lock.Exact && kept[k.Digest()]:
			f.Fleet = append(f.Fleet, k.Name)
		}
	}
	for _, k := range inSnapshots(l) {
		if !kept[k.Digest()] {
			f.Snapshots = append(f.Snapshots, k.Name)
		}
	}
	if len(f.Nowhere)+len(f.Fleet) > 0 && len(s.snapshots) == 0 && l.Host.ID == "debian" {
		f.Hint = `a snapshot archive may have old versions: snapshots = ["https://snapshot.mirror.example"] in fleet.toml, ` +
			"or $STEAD_SNAPSHOT_ARCHIVE"
	}
	return f
}

// Lines are what it comes to, for people.
func (f Forecast) Lines() (lines []string) {
	for _, part := range []struct {
		names     []string
		one, many string
	}{
		{f.Nowhere, "package is in no archive, and lost with the fleet's blobs", "packages are in no archive, and lost with the fleet's blobs"},
		{f.Fleet, "package was dropped by its archive, and is lost with the fleet's blobs",
			"packages were dropped by their archive, and are lost with the fleet's blobs"},
		{f.Snapshots, "package is held by a snapshot archive alone", "packages are held by a snapshot archive alone"},
	} {
		const most = 10
		n := len(part.names)
		text := part.many
		if n == 1 {
			text = part.one
		}
		switch {
		case n > most:
			lines = append(lines, fmt.Sprintf("%d %s: %s and %d more", n, text, strings.Join(part.names[:most], ", "), n-most))
		case n > 0:
			lines = append(lines, fmt.Sprintf("%d %s: %s", n, text, strings.Join(part.names, ", ")))
		}
	}
	return lines
}
