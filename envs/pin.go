package envs

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // dpkg's records are in MD5; nothing is trusted for them
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/archive"
	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// outside are packages that are locked but not put into the root filesystem: an env
// runs on the kernel of its machine.
var outside = []string{"linux-image-", "linux-modules-", "firmware-", "intel-microcode", "amd64-microcode"}

func isOutside(name string) bool {
	for _, prefix := range outside {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// pin finds a package file for each installed package, and proves that it is what
// is installed. What no archive has is built from the host's own files.
func (s *snapshotter) pin(ctx context.Context) error {
	installed := s.inv.Database.Packages
	want := make([]archive.Want, 0, len(installed))
	for _, p := range installed {
		want = append(want, wanted(p))
	}
	found, err := archive.Debian{
		Host: s.host, Store: s.cfg.Store, Architecture: s.inv.Database.Architecture, Previous: s.previous,
		Mirrors: s.cfg.Fleet.allMirrors(), Fetch: archive.FetchOptions{Progress: s.cfg.Progress},
	}.Locate(ctx, want)
	if err != nil {
		return err
	}
	candidates := map[archive.Want][]archive.Candidate{}
	for _, c := range found.Candidates {
		candidates[c.Want] = append(candidates[c.Want], c)
	}
	absent, err := s.bring(ctx, found.Candidates)
	if err != nil {
		return err
	}
	if err := s.unpackCandidates(ctx, found.Candidates, absent); err != nil {
		return err
	}
	used := map[string]bool{}
	for _, p := range installed {
		pinned, err := s.prove(ctx, p, candidates[wanted(p)], absent, found.Problems)
		if err != nil {
			return err
		}
		used[pinned.Archive] = true
		s.packages = append(s.packages, pinned)
	}
	for _, a := range found.Archives {
		if used[a.Name] {
			s.archives = append(s.archives, a)
		}
	}
	return nil
}

func wanted(p snapshot.Package) archive.Want {
	return archive.Want{Name: p.Name, Version: p.Version, Architecture: p.Architecture}
}

// bring fetches the candidates' files, from the host where it has them. It returns
// those that are nowhere any more; an archive that can't be reached is an error.
func (s *snapshotter) bring(ctx context.Context, all []archive.Candidate) (absent map[digest.Digest]error, err error) {
	absent = map[digest.Digest]error{}
	var need []archive.Candidate
	for _, c := range all {
		_, tree := s.cfg.Store.Find(store.Trees, image.TreeName(pinned(c)))
		if !tree && !s.cfg.Store.HasBlob(c.Digest()) {
			need = append(need, c)
		}
	}
	if err := archive.FromHost(ctx, s.host, s.cfg.Store, need, s.cfg.Progress); err != nil {
		return nil, err
	}
	var files []archive.File
	for _, c := range need {
		if len(c.URLs) > 0 {
			files = append(files, c.File())
		} else if !s.cfg.Store.HasBlob(c.Digest()) {
			absent[c.Digest()] = errors.New("the host's own file of it isn't what its archive names")
		}
	}
	err = archive.Fetch(ctx, s.cfg.Store, files, archive.FetchOptions{Progress: s.cfg.Progress})
	var each archive.FetchErrors
	if !errors.As(err, &each) {
		return absent, err
	}
	var other archive.FetchErrors
	for _, e := range each {
		if gone(e) {
			absent[e.Digest] = e
		} else {
			other = append(other, e)
		}
	}
	if len(other) > 0 {
		return nil, other
	}
	return absent, nil
}

// gone reports whether every address of a file answered that it isn't there.
func gone(e *archive.FetchError) bool {
	for _, t := range e.Tries {
		var status *archive.StatusError
		if !errors.As(t.Err, &status) || status.Code != http.StatusNotFound && status.Code != http.StatusGone {
			if !errors.Is(t.Err, fs.ErrNotExist) {
				return false
			}
		}
	}
	return true
}

func pinned(c archive.Candidate) lock.Package {
	return lock.Package{
		Name: c.Name, Version: c.Version, Architecture: c.Architecture,
		Archive: c.Archive.Name, Path: c.Path, Size: c.Size, SHA256: c.SHA256, Proof: lock.Exact,
	}
}

func (s *snapshotter) unpackCandidates(ctx context.Context, all []archive.Candidate, absent map[digest.Digest]error) error {
	var packages []lock.Package
	seen := map[digest.Digest]bool{}
	for _, c := range all {
		if absent[c.Digest()] == nil && !isOutside(c.Name) && !seen[c.Digest()] {
			seen[c.Digest()] = true
			packages = append(packages, pinned(c))
		}
	}
	byDigest := map[string]archive.Candidate{}
	for _, c := range all {
		byDigest[c.SHA256] = c
	}
	return unpackAll(ctx, s.cfg, packages, func(ctx context.Context, p lock.Package) error {
		if err := s.cfg.Store.DropBlob(p.Digest()); err != nil {
			return err
		}
		absent, err := s.bring(ctx, []archive.Candidate{byDigest[p.SHA256]})
		if e := absent[p.Digest()]; e != nil {
			return e
		}
		return err
	})
}

// prove chooses the candidate that is what is installed, or repacks the package.
func (s *snapshotter) prove(ctx context.Context, p snapshot.Package, candidates []archive.Candidate,
	absent map[digest.Digest]error, problems []*archive.Problem) (lock.Package, error) {
	why := "no archive of the host has it"
	if len(problems) > 0 {
		why = problems[0].Error()
	}
	for _, c := range candidates {
		if err := absent[c.Digest()]; err != nil {
			why = err.Error()
			continue
		}
		k := pinned(c)
		differs := ""
		if !isOutside(p.Name) {
			var err error
			if differs, err = s.differs(ctx, k, p); err != nil {
				return k, err
			}
		}
		if differs != "" {
			why = "the archive's package isn't what is installed: " + differs
			continue
		}
		if c.Archive.Name == "" || len(c.URLs) == 0 { // nobody else can fetch it
			s.keep = append(s.keep, k.Digest())
		}
		return s.annotate(k, p), nil
	}
	k, err := s.repack(ctx, p)
	if err != nil {
		return k, fmt.Errorf("repacking %s: %w", p.Name, err)
	}
	s.repacked = append(s.repacked, RepackedPackage{Name: p.Name, Version: p.Version, Reason: why})
	s.cfg.Progress.Note("proving", fmt.Sprintf("%s %s is repacked from the host: %s", p.Name, p.Version, why))
	return s.annotate(k, p), nil
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
	return k
}

// differs says what shows that a package file isn't the one installed.
func (s *snapshotter) differs(ctx context.Context, k lock.Package, p snapshot.Package) (string, error) {
	it, ok := s.cfg.Store.Find(store.Trees, image.TreeName(k))
	if !ok {
		return "", fmt.Errorf("reading the tree of %s: it is not in the store", k.Name)
	}
	m, err := it.Manifest()
	if err != nil {
		return "", err
	}
	proof := image.Prove(m, p, s.inv)
	if proof.Differs != "" || len(proof.Unsettled) == 0 {
		return proof.Differs, nil
	}
	var paths []string
	sums := map[string]string{}
	for _, f := range proof.Unsettled {
		paths = append(paths, f.Path)
		sums[f.Path] = f.Digest
	}
	differs := ""
	err = s.host.Read(ctx, paths, func(p string, r io.Reader, err error) error {
		if err != nil {
			return fmt.Errorf("reading /%s: %w", p, err)
		}
		sum, err := digest.FromReader(r)
		if err == nil && sum.Encoded() != sums[p] {
			differs = "/" + p + " isn't the package's"
		}
		return err
	})
	return differs, err
}

// repack builds a package file from what the host has of a package. Files that
// aren't as the package brought them are the delta's.
func (s *snapshotter) repack(ctx context.Context, p snapshot.Package) (lock.Package, error) {
	k := lock.Package{Name: p.Name, Version: p.Version, Architecture: p.Architecture, Proof: lock.Repacked}
	records, times, err := s.records(ctx, p)
	if err != nil {
		return k, err
	}
	files, err := s.pristine(ctx, p)
	if err != nil {
		return k, err
	}
	w, err := s.cfg.Store.NewCompressedBlob()
	if err != nil {
		return k, err
	}
	defer w.Close() //nolint:errcheck // dropping what isn't committed
	open := func(f snapshot.File) (io.ReadCloser, error) { return s.contents.open(ctx, f) }
	if err := image.Repack(ctx, w, p, records, times, files, open); err != nil {
		return k, err
	}
	k.Size = w.Size()
	sum, err := w.Commit(ctx, "")
	if err != nil {
		return k, err
	}
	k.SHA256 = sum.Encoded()
	s.keep = append(s.keep, sum)
	return k, unpackAll(ctx, s.cfg, []lock.Package{k}, nil)
}

// records reads the database's own files about a package.
func (s *snapshotter) records(ctx context.Context, p snapshot.Package) (map[string][]byte, map[string]int64, error) {
	member := map[string]string{}
	times := map[string]int64{}
	var paths []string
	for name, path := range p.Records {
		if e, ok := s.inv.Lookup(path); ok && e.Type == snapshot.Regular {
			member[path], times[name] = name, e.MTime
			paths = append(paths, path)
		}
	}
	records := map[string][]byte{}
	err := s.host.Read(ctx, paths, func(path string, r io.Reader, err error) error {
		if err == nil {
			records[member[path]], err = io.ReadAll(io.LimitReader(r, 16<<20))
		}
		if err != nil {
			return fmt.Errorf("reading /%s: %w", path, err)
		}
		return nil
	})
	return records, times, err
}

// pristine are a package's files as the host has them, under the paths that the
// package gives them, with their digests.
func (s *snapshotter) pristine(ctx context.Context, p snapshot.Package) ([]snapshot.File, error) {
	links := snapshot.NewLinks(s.inv.Links)
	diverted := map[string]string{}
	for _, d := range s.inv.Database.Diversions {
		if d.By != p.Name {
			diverted[d.From] = d.To
		}
	}
	want := map[string]string{}
	for path, sum := range p.MD5 {
		want[path] = sum
	}
	for _, c := range p.Conffiles {
		want[c.Path] = c.MD5
	}
	var files []snapshot.File
	var spelled []string
	for _, path := range p.Files {
		at := path
		if to, ok := diverted[path]; ok {
			at = to
		}
		canonical, err := links.Path(at)
		if err != nil {
			return nil, err
		}
		e, ok := s.inv.Lookup(canonical)
		if !ok || e.Class == snapshot.Secret || e.Class == snapshot.Noise {
			continue
		}
		files, spelled = append(files, e.File), append(spelled, path)
	}
	if err := s.contents.read(ctx, files); err != nil {
		return nil, err
	}
	return s.unchanged(ctx, files, spelled, want)
}

func (s *snapshotter) unchanged(ctx context.Context, files []snapshot.File, spelled []string, want map[string]string) ([]snapshot.File, error) {
	var out []snapshot.File
	group := map[string]string{} // hard links by their spelled names
	for i, f := range files {
		path := spelled[i]
		if f.Type == snapshot.Regular {
			first := f.Path
			if f.Link != "" {
				first = f.Link
			}
			k := s.contents.fresh[first]
			if k.failed != nil || k.Reason != "" || k.Digest == "" {
				continue
			}
			f.Digest = k.Digest
			same, err := s.sameMD5(ctx, f, want[path])
			if err != nil {
				return nil, err
			}
			if !same {
				continue
			}
			if f.Link != "" {
				if group[f.Link] == "" {
					group[f.Link] = path
				}
				f.Link = group[f.Link]
			}
		}
		f.Path, f.Xattrs = path, nil
		out = append(out, f)
	}
	return out, nil
}

func (s *snapshotter) sameMD5(ctx context.Context, f snapshot.File, want string) (bool, error) {
	if want == "" {
		return true, nil
	}
	r, err := s.contents.open(ctx, f)
	if err != nil {
		return false, err
	}
	defer r.Close()
	h := md5.New() //nolint:gosec // see the import
	_, err = io.Copy(h, r)
	return bytes.Equal([]byte(hex.EncodeToString(h.Sum(nil))), []byte(want)), err
}
