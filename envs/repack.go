package envs

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // dpkg's records are in MD5; nothing is trusted for them
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// repacking is a package that is built from the host's own files.
type repacking struct {
	pkg     snapshot.Package
	hosts   []snapshot.File // as the host has them, with the digests of regular ones
	spelled []string        // the paths that the package gives them
	records map[string][]byte
	times   map[string]int64 // of records, by member too
	pinned  *lock.Package    // where it was built from the same files before
}

// repackAll builds package files from what the host has of packages. It is asked once
// for all of them. Files that aren't as their package brought them are the delta's.
func (s *snapshotter) repackAll(ctx context.Context, packages []snapshot.Package) ([]lock.Package, error) {
	all := make([]*repacking, 0, len(packages))
	var files []snapshot.File
	for _, p := range packages {
		r, err := s.locate(p)
		if err != nil {
			return nil, fmt.Errorf("repacking %s: %w", p.Name, err)
		}
		all, files = append(all, r), append(files, r.hosts...)
	}
	if err := s.readRecords(ctx, all); err != nil {
		return nil, err
	}
	if err := s.contents.read(ctx, files); err != nil {
		return nil, err
	}
	if err := s.sent(all); err != nil {
		return nil, err
	}
	files = files[:0]
	for _, r := range all {
		s.takeDigests(r)
		if err := s.recallRepacked(r); err != nil {
			return nil, err
		}
		if r.pinned == nil {
			files = append(files, r.hosts...)
		}
	}
	if err := s.contents.gather(ctx, files, nil, s.opts.Wire); err != nil {
		return nil, err
	}
	if err := s.sent(all); err != nil { // what was only remembered is asked for now
		return nil, err
	}
	var pinned []lock.Package
	for _, r := range all {
		k, err := s.repack(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("repacking %s: %w", r.pkg.Name, err)
		}
		s.keep = append(s.keep, k.Digest())
		pinned = append(pinned, k)
	}
	return pinned, unpackAll(ctx, s.cfg, packageTrees(pinned), nil)
}

// locate finds the files of a package on the host.
func (s *snapshotter) locate(p snapshot.Package) (*repacking, error) {
	r := &repacking{pkg: p, records: map[string][]byte{}, times: map[string]int64{}}
	links := snapshot.NewLinks(s.inv.Links)
	diverted := map[string]string{}
	for _, d := range s.inv.Database.Diversions {
		if d.By != p.Name {
			diverted[d.From] = d.To
		}
	}
	folders := map[string]bool{} // whatever the host has there: /lib may be a link
	for _, f := range p.Files {
		folders[path.Dir(f)] = true
	}
	for _, f := range p.Files {
		at := f
		if to, ok := diverted[f]; ok {
			at = to
		}
		resolve := links.Path
		if folders[f] {
			resolve = links.Dir
		}
		canonical, err := resolve(at)
		if err != nil {
			return nil, err
		}
		e, ok := s.inv.Lookup(canonical)
		if !ok || e.Class == snapshot.Secret || e.Class == snapshot.Noise {
			continue
		}
		r.hosts, r.spelled = append(r.hosts, e.File), append(r.spelled, f)
	}
	return r, nil
}

// readRecords reads the database's own files about packages.
func (s *snapshotter) readRecords(ctx context.Context, all []*repacking) error {
	type record struct {
		of     *repacking
		member string
	}
	ask := map[string]record{}
	for _, r := range all {
		for member, p := range r.pkg.Records {
			if e, ok := s.inv.Lookup(p); ok && e.Type == snapshot.Regular {
				r.times[member] = e.MTime
				ask[p] = record{r, member}
			}
		}
	}
	return s.host.Read(ctx, slices.Sorted(maps.Keys(ask)), func(p string, in io.Reader, err error) error {
		if errors.As(err, new(*snapshot.WithheldError)) {
			return nil
		}
		var content []byte
		var reason string
		if err == nil {
			content, err = io.ReadAll(io.LimitReader(in, 16<<20))
		}
		if err == nil {
			reason, err = s.opts.Rules.Content(p, bytes.NewReader(content))
		}
		if err != nil {
			return fmt.Errorf("reading /%s: %w", p, err)
		}
		if reason == "" { // a script with a password in it stays on the host, and the review says so
			ask[p].of.records[ask[p].member] = content
		}
		return nil
	})
}

// takeDigests leaves out what couldn't be read or may not leave.
func (s *snapshotter) takeDigests(r *repacking) {
	hosts, spelled := r.hosts[:0], r.spelled[:0]
	for i, f := range r.hosts {
		if f.Type == snapshot.Regular {
			sum, reason, err := s.contents.of(f)
			if err != nil || reason != "" {
				continue
			}
			f.Digest = sum
		}
		hosts, spelled = append(hosts, f), append(spelled, r.spelled[i])
	}
	r.hosts, r.spelled = hosts, spelled
}

// repackFormat changes when the same files give another package file.
const repackFormat = "1"

// key names all that a repacked package is made of.
func (r *repacking) key() string {
	h := sha256.New()
	enc := json.NewEncoder(h)
	for i, f := range r.hosts {
		f.Change, f.Xattrs = snapshot.Stamp{}, nil
		enc.Encode([]any{[]byte(r.spelled[i]), []byte(f.Path), []byte(f.Target), []byte(f.Link), f}) //nolint:errcheck // a hash takes everything
	}
	enc.Encode([]any{r.pkg, r.records, r.times}) //nolint:errcheck // as above
	return "repacked-" + repackFormat + "-" + hex.EncodeToString(h.Sum(nil))
}

// recallRepacked finds the package file that was built from the same files before, if it
// is still what it was.
func (s *snapshotter) recallRepacked(r *repacking) error {
	k := lock.Package{Name: r.pkg.Name, Version: r.pkg.Version, Architecture: r.pkg.Architecture, Proof: lock.Repacked}
	text, err := s.cfg.Store.Recall(r.key())
	if err != nil {
		return nil
	}
	sum, size, _ := strings.Cut(text, " ")
	k.SHA256 = sum
	if k.Size, err = strconv.ParseInt(size, 10, 64); err != nil || !s.cfg.Store.HasBlob(k.Digest()) {
		return nil
	}
	err = s.cfg.Store.CheckBlob(k.Digest())
	if errors.As(err, new(*store.MismatchError)) {
		return s.cfg.Store.DropBlob(k.Digest())
	}
	if err == nil {
		r.pinned = &k
	}
	return err
}

// repack builds one package file.
func (s *snapshotter) repack(ctx context.Context, r *repacking) (lock.Package, error) {
	if r.pinned != nil {
		return *r.pinned, nil
	}
	k := lock.Package{Name: r.pkg.Name, Version: r.pkg.Version, Architecture: r.pkg.Architecture, Proof: lock.Repacked}
	files, on, err := s.pristine(ctx, r)
	if err != nil {
		return k, err
	}
	w, err := s.cfg.Store.NewCompressedBlob()
	if err != nil {
		return k, err
	}
	defer w.Close() //nolint:errcheck // dropping what isn't committed
	open := func(f snapshot.File) (io.ReadCloser, error) { return s.contents.open(ctx, on[f.Path]) }
	if err := image.Repack(ctx, w, r.pkg, r.records, r.times, files, open); err != nil {
		return k, err
	}
	k.Size = w.Size()
	sum, err := w.Commit(ctx, "")
	if err != nil {
		return k, err
	}
	k.SHA256 = sum.Encoded()
	return k, s.cfg.Store.Remember(r.key(), fmt.Sprintf("%s %d", k.SHA256, k.Size))
}

// pristine are a package's files with the MD5 sums that it brought, under the paths
// that it gives them; on has them under the same paths as they are on the host.
func (s *snapshotter) pristine(ctx context.Context, r *repacking) (files []snapshot.File, on map[string]snapshot.File, err error) {
	want := maps.Clone(r.pkg.MD5)
	if want == nil {
		want = map[string]string{}
	}
	for _, c := range r.pkg.Conffiles {
		want[c.Path] = c.MD5
	}
	on = map[string]snapshot.File{}
	group := map[string]string{} // hard links by their spelled names
	for i, f := range r.hosts {
		name := r.spelled[i]
		if f.Type == snapshot.Regular {
			same, err := s.sameMD5(ctx, f, want[name])
			if err != nil {
				return nil, nil, err
			}
			on[name] = f
			if !same {
				continue
			}
			if f.Link != "" {
				if group[f.Link] == "" {
					group[f.Link] = name
				}
				f.Link = group[f.Link]
			}
		}
		f.Path, f.Xattrs = name, nil
		files = append(files, f)
	}
	return files, on, nil
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
