package envs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/archive"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/snapshot"
)

// takeIndex makes a lock of names, versions and facts, with an index of what the host's
// libraries export: no content of a file leaves the host, nothing is fetched, unpacked or
// built.
func (s *snapshotter) takeIndex(ctx context.Context) (*lock.Lock, error) {
	if err := s.list(ctx); err != nil {
		return nil, err
	}
	index, err := s.indexOfHost(ctx)
	if err != nil {
		return nil, err
	}
	tops := map[string]*snapshot.Left{}
	for _, e := range s.inv.Entries {
		if e.Type != snapshot.Regular {
			continue
		}
		top, _, _ := strings.Cut(e.Path, "/")
		if tops[top] == nil {
			tops[top] = &snapshot.Left{Path: top, Class: snapshot.Noise, Reason: "not taken: --take index"}
		}
		tops[top].Files, tops[top].Bytes = tops[top].Files+1, tops[top].Bytes+e.Size
	}
	for _, l := range tops {
		s.inv.Left = append(s.inv.Left, *l)
	}
	snapshot.SortLeft(s.inv.Left)
	s.review = &Review{Left: s.inv.Left, Unreadable: s.inv.Unreadable}
	review, err := s.review.save(ctx, s.cfg.Store)
	if err != nil {
		return nil, err
	}
	s.keep = append(s.keep, review)
	l := s.lock(lock.Delta{}, review, "")
	l.Index = index
	return l, nil
}

// indexOfHost makes the index out of the host's own files, and keeps digests and records
// of them. A bundle without contents has none.
func (s *snapshotter) indexOfHost(ctx context.Context) (*lock.Attachment, error) {
	h, err := newHostIndex(s.cfg, s.host, s.inv, s.opts.Rules, s.opts.Address)
	if err != nil {
		return nil, err
	}
	known, err := knownObjects(s.cfg, s.opts.Target)
	if err != nil {
		return nil, errors.Join(err, h.close(false))
	}
	src, err := h.source(ctx, append(known.packages(), s.packages...), known.has)
	var unsent *UnsentIndexError
	if errors.As(err, &unsent) {
		s.cfg.Progress.Note("indexing", unsent.Error()+": it says nothing on what starts there")
		return nil, h.close(false)
	}
	var index *lock.Attachment
	var blobs []digest.Digest
	if err == nil {
		index, blobs, err = makeIndex(ctx, s.cfg, src, known)
	}
	s.keep = append(s.keep, blobs...)
	return index, errors.Join(err, h.close(err == nil))
}

// list pins packages by name and version, with the file that an archive's signed index
// names for them. Whether that is what is installed isn't proved.
func (s *snapshotter) list(ctx context.Context) error {
	installed := s.remaining()
	debian, want, err := s.search(installed)
	if err != nil {
		return err
	}
	found, err := debian.Locate(ctx, want)
	if err != nil {
		return err
	}
	first := map[archive.Want]archive.Candidate{}
	for _, c := range found.Candidates {
		if _, again := first[c.Want]; !again && c.Archive.Name != "" {
			first[c.Want] = c
		}
	}
	used := map[string]bool{}
	for _, p := range installed {
		k := lock.Package{Name: p.Name, Version: p.Version, Architecture: p.Architecture}
		if c, ok := first[wanted(p)]; ok {
			k = pinned(c)
		}
		k.Proof = lock.Listed
		used[k.Archive] = true
		s.packages = append(s.packages, s.annotate(k, p))
	}
	for _, a := range found.Archives {
		if used[a.Name] {
			used[a.Name] = false
			s.archives = append(s.archives, a)
		}
	}
	return nil
}

// IndexError says that a release can't be made into an env.
type IndexError struct{ Release Release }

func (e *IndexError) Error() string {
	return fmt.Sprintf("pulling %s: it was taken with --take index: it knows names and versions, and no file of the host left it", e.Release)
}

// Hint says what makes one that can.
func (e *IndexError) Hint() string {
	return fmt.Sprintf("stead snapshot HOST %s --take minimal, or standard, makes a release with files", e.Release.Target)
}
