package envs

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // dpkg's records are in MD5; nothing is trusted for them
	"encoding/hex"
	"fmt"
	"io"
	"path"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/snapshot"
)

// repack builds a package file from what the host has of a package. Files that
// aren't as the package brought them are the delta's.
func (s *snapshotter) repack(ctx context.Context, p snapshot.Package) (lock.Package, error) {
	k := lock.Package{Name: p.Name, Version: p.Version, Architecture: p.Architecture, Proof: lock.Repacked}
	records, times, err := s.records(ctx, p)
	if err != nil {
		return k, err
	}
	files, on, err := s.pristine(ctx, p)
	if err != nil {
		return k, err
	}
	w, err := s.cfg.Store.NewCompressedBlob()
	if err != nil {
		return k, err
	}
	defer w.Close() //nolint:errcheck // dropping what isn't committed
	open := func(f snapshot.File) (io.ReadCloser, error) { return s.contents.open(ctx, on[f.Path]) }
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
	return k, unpackAll(ctx, s.cfg, packageTrees([]lock.Package{k}), nil)
}

// records reads the database's own files about a package.
func (s *snapshotter) records(ctx context.Context, p snapshot.Package) (map[string][]byte, map[string]int64, error) {
	member := map[string]string{}
	times := map[string]int64{}
	var paths []string
	for name, record := range p.Records {
		if e, ok := s.inv.Lookup(record); ok && e.Type == snapshot.Regular {
			member[record], times[name] = name, e.MTime
			paths = append(paths, record)
		}
	}
	records := map[string][]byte{}
	err := s.host.Read(ctx, paths, func(record string, r io.Reader, err error) error {
		if err == nil {
			records[member[record]], err = io.ReadAll(io.LimitReader(r, 16<<20))
		}
		if err == nil {
			var reason string
			reason, err = s.opts.Rules.Content(record, bytes.NewReader(records[member[record]]))
			if reason != "" { // a script with a password in it stays on the host, and the review says so
				delete(records, member[record])
			}
		}
		if err != nil {
			return fmt.Errorf("reading /%s: %w", record, err)
		}
		return nil
	})
	return records, times, err
}

// pristine are a package's files as the host has them, under the paths that the
// package gives them, with their digests; on has them under the same paths as they
// are on the host.
func (s *snapshotter) pristine(ctx context.Context, p snapshot.Package) (files []snapshot.File, on map[string]snapshot.File, err error) {
	links := snapshot.NewLinks(s.inv.Links)
	diverted := map[string]string{}
	for _, d := range s.inv.Database.Diversions {
		if d.By != p.Name {
			diverted[d.From] = d.To
		}
	}
	want := map[string]string{}
	for f, sum := range p.MD5 {
		want[f] = sum
	}
	for _, c := range p.Conffiles {
		want[c.Path] = c.MD5
	}
	folders := map[string]bool{} // whatever the host has there: /lib may be a link
	for _, f := range p.Files {
		folders[path.Dir(f)] = true
	}
	var hosts []snapshot.File
	var spelled []string
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
			return nil, nil, err
		}
		e, ok := s.inv.Lookup(canonical)
		if !ok || e.Class == snapshot.Secret || e.Class == snapshot.Noise {
			continue
		}
		hosts, spelled = append(hosts, e.File), append(spelled, f)
	}
	if err := s.contents.read(ctx, hosts); err != nil {
		return nil, nil, err
	}
	return s.unchanged(ctx, hosts, spelled, want)
}

// unchanged are those of the host's files that have the MD5 sums that the package
// brought.
func (s *snapshotter) unchanged(ctx context.Context, hosts []snapshot.File, spelled []string, want map[string]string) (
	files []snapshot.File, on map[string]snapshot.File, err error) {
	on = map[string]snapshot.File{}
	group := map[string]string{} // hard links by their spelled names
	for i, f := range hosts {
		name := spelled[i]
		if f.Type == snapshot.Regular {
			sum, reason, err := s.contents.of(f)
			if err != nil || reason != "" {
				continue
			}
			f.Digest = sum
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
