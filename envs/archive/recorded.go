package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// errOffline says that nobody was asked.
var errOffline = errors.New("no index of it is at hand, and archives aren't asked")

// latest is the newest signed file of a source that can be had: what its archive
// serves, else what it served when it was asked last. There may be both one and an
// error, which says why it isn't today's.
func (a *apt) latest(ctx context.Context, s source) (*release, error) {
	key := "inrelease-" + digest.FromString(s.uri+" "+s.suite).Encoded()
	_, local := s.local()
	failed := errOffline
	if local || !a.Offline {
		rel, err := current{a}.release(ctx, s)
		if err == nil && !local {
			err = a.keep(ctx, rel, key)
		}
		if err == nil || ctx.Err() != nil || errors.As(err, new(*sinkError)) {
			return rel, err
		}
		failed = err
	}
	known, err := a.Store.Recall(key)
	if err != nil || local {
		return nil, failed
	}
	blob, err := a.blob(digest.Digest(known))
	if err != nil {
		return nil, failed
	}
	rel, err := a.verify(s, blob)
	switch {
	case err != nil:
		return nil, failed
	case a.Offline:
		return rel, nil
	}
	return rel, fmt.Errorf("%w; its index of %s takes the place", failed, rel.date.Format(time.DateOnly))
}

// addLocked adds the archives of the lock that the host's own configuration doesn't name:
// it may have stayed behind for a password that is in it.
func (a *apt) addLocked() {
	if a.Previous == nil {
		return
	}
	for _, l := range a.Previous.Archives {
		s := source{uri: strings.TrimRight(l.URI, "/"), suite: l.Suite, locked: true}
		_, err := cleanURI(s.uri)
		if err != nil || s.suite == "" || isTree(s.uri) || a.byHash(l) || slices.ContainsFunc(a.sources, func(o source) bool {
			return o.uri == s.uri && o.suite == s.suite
		}) {
			continue
		}
		a.sources = append(a.sources, s)
	}
}

// lockedComponents are those of an archive that the lock has packages of, or all where
// that can't be told.
func (a *apt) lockedComponents(s source, rel *release, archs []string) (out []string) {
	all := rel.components(archs)
	for _, l := range a.Previous.Archives {
		if l.Suite != s.suite || strings.TrimRight(l.URI, "/") != s.uri {
			continue
		}
		for _, p := range a.Previous.Packages {
			if p.Archive != l.Name {
				continue
			}
			for _, c := range all {
				if !slices.Contains(out, c) && strings.Contains("/"+p.Path, "/"+c+"/") {
					out = append(out, c)
				}
			}
		}
	}
	if len(out) == 0 {
		return all
	}
	return out
}

// today is a source and its newest signed file: see latest.
type today struct {
	source
	rel *release
	err error
}

// today asks all archives of the host at once.
func (a *apt) today(ctx context.Context, archs ...string) ([]today, error) {
	all := make([]today, len(a.sources))
	ask := func(ctx context.Context, i int) error {
		all[i].rel, all[i].err = a.latest(ctx, a.sources[i])
		if errors.As(all[i].err, new(*sinkError)) {
			return all[i].err
		}
		return ctx.Err()
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(sourcesAtOnce)
	var local []int // what is known of the host is in one hand
	for i, s := range a.sources {
		all[i].source = s
		if _, ok := s.local(); ok {
			local = append(local, i)
			continue
		}
		g.Go(func() error { return ask(gctx, i) })
	}
	err := g.Wait()
	for _, i := range local {
		if err == nil {
			err = ask(ctx, i)
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for i, t := range all {
		if t.locked && t.rel != nil && !t.flat() {
			all[i].components = a.lockedComponents(t.source, t.rel, archs)
			a.sources[i].components = all[i].components
		}
	}
	return all, err
}

// prefetch brings the indexes of packages of several sources at once. What fails is
// tried again, and told, when it is read.
func (a *apt) prefetch(ctx context.Context, all []today, want []Want) error {
	var files []File
	for _, t := range all {
		if _, local := t.local(); local || t.rel == nil || a.Offline {
			continue
		}
		for _, stem := range a.stems(t.source, t.rel, want) {
			for _, e := range endings {
				if l, ok := t.rel.files[stem+e]; ok && l.size > 0 && l.size <= maxIndex {
					files = append(files, current{a}.file(t.source, t.rel, stem+e, l))
					break
				}
			}
		}
	}
	err := Fetch(ctx, a.Store, files, a.Fetch)
	if err != nil && !errors.As(err, new(FetchErrors)) {
		return err
	}
	return nil
}

func (a *apt) keep(ctx context.Context, rel *release, key string) error {
	d := digest.FromBytes(rel.blob)
	err := a.Store.PutBlob(ctx, d, int64(len(rel.blob)), bytes.NewReader(rel.blob))
	if err == nil {
		err = a.Store.Remember(key, d.String())
	}
	if err != nil {
		return &sinkError{err}
	}
	return nil
}

// blob reads a small blob of the store.
func (a *apt) blob(d digest.Digest) ([]byte, error) {
	r, err := a.Store.OpenBlob(d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readAtMost(r, maxRelease)
}

// recorded reads the indexes that the lock names. What is older than today's is in them
// alone: a file of the version that the base has a part of.
func (o *offering) recorded(ctx context.Context) error {
	if o.Previous == nil {
		return nil
	}
	for _, a := range o.Previous.Archives {
		s, ok := o.recordedSource(a)
		if !ok {
			continue
		}
		rel, err := o.recordedRelease(ctx, s, a)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, new(*sinkError)):
			return err
		case err != nil:
			o.trouble("the index of "+a.Dated.Format(time.DateOnly), s, err)
			continue
		}
		var keep func(*record) bool
		if len(s.components) == 0 && !s.flat() {
			s.components = o.lockedComponents(s, rel, o.archs())
			if isUpload(a.Suite) {
				keep = o.siblings(a)
			}
		}
		if err := o.indexes(ctx, s, rel, RankRecorded, keep); err != nil {
			return err
		}
	}
	return nil
}

// recordedSource is where the index of a lock's archive can be had. It has no
// components where the host names none of that suite. It is not ok for one that has its
// index under another name.
func (o *offering) recordedSource(a lock.Archive) (s source, ok bool) {
	uri := strings.TrimRight(a.URI, "/")
	if o.byHash(a) { // a snapshot archive that has files alone
		for _, b := range o.Previous.Archives {
			if b.InRelease == a.InRelease && !o.byHash(b) {
				return s, false
			}
		}
		i := slices.IndexFunc(o.sources, func(s source) bool { return s.suite == a.Suite })
		if i < 0 {
			return s, false
		}
		a.Name, uri = strings.TrimSuffix(a.Name, "-snapshot"), o.sources[i].uri
		a.URI = uri
	}
	s = source{uri: uri, suite: a.Suite, past: true}
	for _, known := range o.sources {
		if known.suite != a.Suite || known.uri != uri && !isTree(uri) {
			continue
		}
		s.components, s.archs = union(s.components, known.components), union(s.archs, known.archs)
	}
	s.siblings = SnapshotTrees(a, o.Snapshots)
	return s, true
}

// byHash reports whether a lock's archive serves files by what is in them.
func (a *apt) byHash(l lock.Archive) bool {
	return slices.ContainsFunc(a.Previous.Packages, func(p lock.Package) bool {
		sum, ok := strings.CutPrefix(p.Path, filePath(""))
		return ok && p.Archive == l.Name && isSHA1(sum)
	})
}

// isUpload reports whether a suite is one that packages pass through: see old.suites.
func isUpload(suite string) bool {
	return slices.Contains([]string{"sid", "unstable", "experimental"}, suite) || strings.HasSuffix(suite, "-proposed-updates")
}

// siblings lets pass what is of a version that the lock has a package of from an
// archive: in a suite that the host never had, nothing else was meant for it.
func (o *offering) siblings(a lock.Archive) func(*record) bool {
	versions := make(map[string]bool)
	for _, p := range o.Previous.Packages {
		if p.Archive == a.Name {
			versions[p.Version] = true
		}
	}
	return func(r *record) bool { return versions[string(r.field[fieldVersion])] }
}

// components are those that a Release lists packages of.
func (r *release) components(archs []string) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(r.files)) {
		dir, arch, ok := strings.Cut(path.Dir(name), "/binary-")
		if ok && slices.Contains(archs, arch) && !strings.HasSuffix(dir, "/debian-installer") && !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	return out
}

// recordedRelease is the signed file that a lock names. The lock vouches for it: its
// signature was good when it was written there.
func (o *offering) recordedRelease(ctx context.Context, s source, a lock.Archive) (*release, error) {
	blob, err := o.blob(a.InRelease)
	if errors.As(err, new(*store.MissingError)) {
		blob, err = o.pastRelease(ctx, s, a)
	}
	if err != nil {
		return nil, err
	}
	text, err := split(blob)
	if err != nil {
		return nil, err
	}
	rel, err := parseRelease(bytes.NewReader(text.text))
	if err != nil {
		return nil, err
	}
	rel.signedBy, rel.blob = a.SignedBy, blob
	return rel, nil
}

// pastRelease fetches the signed file that a lock names.
func (o *offering) pastRelease(ctx context.Context, s source, a lock.Archive) ([]byte, error) {
	if _, local := s.local(); local || o.Offline {
		return nil, errOffline
	}
	var errs []error
	for _, base := range slices.Concat([]string{s.uri}, o.mirrors(s)) {
		blob, err := signedFile(ctx, current{o.apt}.overNetwork, base+"/"+escapePath(s.dir()))
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err == nil && digest.FromBytes(blob) == a.InRelease {
			return blob, nil
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); isBroken(err) {
		return nil, err
	}
	return nil, o.gone()
}

// keyringDirs are where a machine keeps the keys of archives.
var keyringDirs = []string{"usr/share/keyrings", "etc/apt/keyrings", "etc/apt/trusted.gpg.d"}

// recordedKeys are the keys of a machine that have signed for a source before, as the
// lock says.
func (a *apt) recordedKeys(ctx context.Context, machine snapshot.Host, s source) openpgp.EntityList {
	if machine == nil || a.Previous == nil {
		return nil
	}
	var prints []string
	for _, b := range a.Previous.Archives {
		if strings.TrimRight(b.URI, "/") == s.uri && b.Suite == s.suite {
			prints = union(prints, b.SignedBy)
		}
	}
	if len(prints) == 0 {
		return nil
	}
	if a.machine == nil {
		keys, err := machineKeys(ctx, newHostFiles(machine, a.note))
		if err != nil {
			a.note("reading this machine's keyrings: %v", err)
		}
		a.machine = append(openpgp.EntityList{}, keys...)
	}
	return restrict(a.machine, prints)
}

func machineKeys(ctx context.Context, files *hostFiles) (keys openpgp.EntityList, err error) {
	for _, dir := range keyringDirs {
		found, err := files.list(ctx, dir)
		if err != nil {
			return keys, err
		}
		names := slices.DeleteFunc(slices.Sorted(maps.Keys(found)), func(n string) bool {
			return !slices.Contains([]string{".gpg", ".asc", ".pgp"}, path.Ext(n))
		})
		content, _, err := files.slurp(ctx, atMost(names, maxConfigFiles), maxKeyring)
		if err != nil {
			return keys, err
		}
		for _, data := range content {
			if some, err := readKeyring(data); err == nil {
				keys = append(keys, some...)
			}
		}
	}
	return keys, nil
}
