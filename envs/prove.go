package envs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/archive"
	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// prove pins each installed package: to the candidate that is what is installed, else to
// a file that is built from the host's own.
func (s *snapshotter) prove(ctx context.Context, installed []snapshot.Package, candidates []candidate, absent map[digest.Digest]error, problems []*archive.Problem) error {
	differs, err := s.compare(ctx, candidates, absent)
	if err != nil {
		return err
	}
	byWant := map[archive.Want][]candidate{}
	for _, c := range candidates {
		byWant[c.Want] = append(byWant[c.Want], c)
	}
	var unproved []snapshot.Package
	var at []int
	first := len(s.packages) // behind those of which nothing is to be had
	for i, p := range installed {
		k, why := s.choose(p, byWant[wanted(p)], differs, absent, problems)
		if why != "" {
			unproved, at = append(unproved, p), append(at, first+i)
			s.repacked = append(s.repacked, RepackedPackage{Name: p.Name, Version: p.Version, Reason: why})
		}
		s.packages = append(s.packages, k)
	}
	repacked, err := s.repackAll(ctx, unproved)
	if err != nil {
		return err
	}
	for j, k := range repacked {
		s.packages[at[j]] = k
	}
	for i, p := range installed {
		s.packages[first+i] = s.annotate(s.packages[first+i], p)
	}
	return nil
}

// choose takes the candidate that is what is installed; why says what is wrong where
// there is none.
func (s *snapshotter) choose(p snapshot.Package, candidates []candidate, differs map[digest.Digest]string,
	absent map[digest.Digest]error, problems []*archive.Problem) (k lock.Package, why string) {
	why = "no archive of the host has it"
	if len(problems) > 0 {
		why = problems[0].Error()
	}
	for _, c := range candidates {
		if err := absent[c.Digest()]; err != nil {
			why = err.Error()
			continue
		}
		if d := differs[c.Digest()]; d != "" {
			why = "the archive's package isn't what is installed: " + d
			continue
		}
		k := pinned(c.Candidate)
		if !c.held { // nobody else can fetch it
			s.keep = append(s.keep, k.Digest())
			s.unheld = append(s.unheld, p.Name)
		}
		return k, ""
	}
	return k, why
}

// annotate adds what the host's database says of a package.
func (s *snapshotter) annotate(k lock.Package, p snapshot.Package) lock.Package {
	if p.Want != "install" {
		k.Want = p.Want
	}
	if p.State != "installed" {
		k.State = p.State
	}
	if isOutside(p.Name) {
		k.Rootfs = "out"
	}
	if s.opts.listed != nil || s.opts.Base != nil && s.listedBefore(k) {
		k.Proof = lock.Listed
	}
	return k
}

// listedBefore reports whether the release before has a package by name and version only:
// a session on it doesn't tell what the host has.
func (s *snapshotter) listedBefore(k lock.Package) bool {
	return slices.ContainsFunc(s.previous.Packages, func(p lock.Package) bool {
		return p.Name == k.Name && p.Architecture == k.Architecture && p.SHA256 == k.SHA256 && p.Proof == lock.Listed
	})
}

// compare says of each candidate's file what shows that it isn't the one installed, ""
// where nothing does. The host is asked once for all of them.
func (s *snapshotter) compare(ctx context.Context, candidates []candidate, absent map[digest.Digest]error) (map[digest.Digest]string, error) {
	installed := map[archive.Want]snapshot.Package{}
	for _, p := range s.inv.Database.Packages {
		installed[wanted(p)] = p
	}
	differs := map[digest.Digest]string{}
	unsettled := map[digest.Digest]store.Manifest{}
	ask := map[string]bool{}
	for _, c := range candidates {
		d := c.Digest()
		if _, done := differs[d]; done || absent[d] != nil || isOutside(c.Name) {
			continue
		}
		m, err := s.manifest(pinned(c.Candidate))
		if err != nil {
			return nil, err
		}
		proof := image.Prove(m, installed[c.Want], s.inv)
		if differs[d] = proof.Differs; proof.Differs == "" {
			unsettled[d] = proof.Unsettled
			for _, f := range proof.Unsettled {
				ask[f.Path] = true
			}
		}
	}
	sums, err := s.sums(ctx, slices.Sorted(maps.Keys(ask)))
	for d, records := range unsettled {
		for _, f := range records {
			if sum := sums[f.Path]; sum != f.Digest && sum != withheld {
				differs[d] = "/" + f.Path + " isn't the package's"
				break
			}
		}
	}
	return differs, err
}

// manifest is that of a package's tree, which is in the store.
func (s *snapshotter) manifest(k lock.Package) (store.Manifest, error) {
	it, ok := s.cfg.Store.Find(store.Trees, image.TreeName(k))
	if !ok {
		return nil, fmt.Errorf("reading the tree of %s: it is not in the store", k.Name)
	}
	return it.Manifest()
}

// withheld stands for the sum of a record that stayed on the host for what is in it: its
// size and the other records have to do.
const withheld = "withheld"

// sums reads files of the host for the SHA-256 of their contents.
func (s *snapshotter) sums(ctx context.Context, paths []string) (map[string]string, error) {
	sums := make(map[string]string, len(paths))
	err := s.host.Read(ctx, paths, func(p string, r io.Reader, err error) error {
		if errors.As(err, new(*snapshot.WithheldError)) {
			sums[p] = withheld
			return nil
		}
		if err == nil {
			var sum digest.Digest
			if sum, err = digest.FromReader(r); err == nil {
				sums[p] = sum.Encoded()
			}
		}
		if err != nil {
			return fmt.Errorf("reading /%s: %w", p, err)
		}
		return nil
	})
	return sums, err
}
