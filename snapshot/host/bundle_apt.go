package host

import (
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
	"github.com/pierrec/lz4/v4"

	"github.com/stead-env/stead/snapshot"
)

// What apt knows of archives is needed to find packages: sources, keys, and the indexes
// of its last update, which prove packages that no archive names any more.
const (
	aptListsDir = "var/lib/apt/lists"
	aptCacheDir = "var/cache/apt/archives"
)

// aptFolders hold files that are taken by their endings.
var aptFolders = []struct {
	dir, reason string
	wants       func(name string) bool
}{
	{"etc/apt", "where packages come from", func(n string) bool { return n == "sources.list" || n == "trusted.gpg" }},
	{"etc/apt/sources.list.d", "where packages come from", ends(".list", ".sources")},
	{"etc/apt/trusted.gpg.d", "keys of package archives", ends(".gpg", ".asc")},
	{"etc/apt/keyrings", "keys of package archives", ends(".gpg", ".asc", ".pgp")},
	{"usr/share/keyrings", "keys of package archives", ends(".gpg", ".asc", ".pgp")},
	{aptListsDir, "what archives hold, signed", func(n string) bool {
		return ends("_InRelease", "_Release", "_Release.gpg")(n) || isIndex(n)
	}},
}

func ends(endings ...string) func(string) bool {
	return func(n string) bool {
		return slices.ContainsFunc(endings, func(e string) bool { return strings.HasSuffix(n, e) })
	}
}

func isIndex(name string) bool {
	if i := strings.LastIndex(name, "_Packages"); i >= 0 {
		rest := name[i+len("_Packages"):]
		return rest == "" || slices.Contains([]string{".xz", ".zst", ".gz", ".bz2", ".lz4"}, rest)
	}
	return false
}

// archives takes what tells where packages come from.
func (p *BundlePlan) archives(ctx context.Context, own map[string]*owner) error {
	var indexes, sources []string
	for _, a := range aptFolders {
		files, err := p.inFolder(ctx, a.dir)
		if err != nil {
			return err
		}
		for name, real := range files {
			if !a.wants(name) {
				continue
			}
			p.take(BundleItem{Path: real.Path, Size: real.Size, Reason: a.reason})
			switch {
			case a.dir == aptListsDir && isIndex(name):
				indexes = append(indexes, real.Path)
			case inSources(a.dir + "/" + name):
				sources = append(sources, real.Path)
			}
		}
	}
	if err := p.signedBy(ctx, sources); err != nil {
		return err
	}
	return p.unlisted(ctx, indexes)
}

// inFolder lists the files in a folder by name, with links to files followed.
func (p *BundlePlan) inFolder(ctx context.Context, dir string) (map[string]snapshot.File, error) {
	real, err := p.resolve(ctx, dir)
	if err != nil || real == "" {
		return nil, err
	}
	files, links := map[string]snapshot.File{}, []string{}
	err = p.host.Files(ctx, real, func(f snapshot.File, err error) error {
		switch {
		case err != nil || f.Path == real:
			return nil // a walk reports what can't be read
		case f.Type == snapshot.Dir:
			return fs.SkipDir
		case f.Type == snapshot.Regular:
			files[path.Base(f.Path)] = f
		case f.Type == snapshot.Symlink && len(links) < 10_000:
			links = append(links, f.Path)
		}
		if len(files) > 100_000 {
			return fmt.Errorf("listing /%s: more than 100000 files", real)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		f, err := p.file(ctx, l)
		if err != nil {
			return nil, err
		}
		if f.Type == snapshot.Regular {
			files[path.Base(l)] = f
		}
	}
	return files, nil
}

// file finds the file that a path leads to; its Type is 0 where there is none.
func (p *BundlePlan) file(ctx context.Context, name string) (found snapshot.File, err error) {
	real, err := p.resolve(ctx, name)
	if err != nil || real == "" {
		return found, err
	}
	return p.lstat(ctx, real)
}

func (p *BundlePlan) lstat(ctx context.Context, name string) (found snapshot.File, err error) {
	err = p.host.Files(ctx, name, func(f snapshot.File, _ error) error {
		if f.Path == name {
			found = f
		}
		return fs.SkipAll
	})
	if err == fs.SkipAll {
		err = nil
	}
	return found, err
}

// resolve follows links within the host, and lists those that it followed. A path that
// isn't there is "".
func (p *BundlePlan) resolve(ctx context.Context, name string) (string, error) {
	real, err := snapshot.Follow(name, func(at string) (snapshot.File, error) {
		f, err := p.lstat(ctx, at)
		if f.Type == snapshot.Symlink {
			p.extra[f.Path] = true
		}
		return f, err
	})
	if errors.Is(err, snapshot.ErrLinks) {
		return "", nil
	}
	return real, err
}

var keyPath = regexp.MustCompile(`(?i)signed-by[=:]\s*([^\]\s]+)`)

// signedBy takes the keys that sources name by their path.
func (p *BundlePlan) signedBy(ctx context.Context, sources []string) error {
	var keys []string
	err := p.host.Read(ctx, sources, func(_ string, r io.Reader, err error) error {
		if err != nil {
			return nil // it is reported where its content is taken
		}
		text, err := io.ReadAll(io.LimitReader(r, 1<<20))
		for _, m := range keyPath.FindAllSubmatch(text, 1000) {
			for k := range strings.SplitSeq(string(m[1]), ",") {
				if strings.HasPrefix(k, "/") {
					keys = append(keys, strings.TrimPrefix(path.Clean(k), "/"))
				}
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, k := range keys {
		f, err := p.file(ctx, k)
		if err != nil {
			return err
		}
		if class, _ := p.opts.Rules.Path(f.Path, f.Type); f.Type == snapshot.Regular && class == "" {
			p.take(BundleItem{Path: f.Path, Size: f.Size, Reason: "keys of package archives"})
		}
	}
	return nil
}

// unlisted finds the packages that no index names in the version installed, and takes
// apt's own copies of them.
func (p *BundlePlan) unlisted(ctx context.Context, indexes []string) error {
	want := map[string]bool{}
	for _, pkg := range p.inv.Database.Packages {
		if pkg.State != "config-files" {
			want[pkg.Name+" "+pkg.Version+" "+pkg.Architecture] = true
		}
	}
	slices.Sort(indexes)
	err := p.host.Read(ctx, indexes, func(name string, r io.Reader, err error) error {
		if err == nil {
			err = scanIndex(ctx, name, r, func(pkg string) { delete(want, pkg) })
		}
		if err != nil && ctx.Err() == nil {
			p.opts.Progress.Note("planning", fmt.Sprintf("reading /%s: %v", name, err))
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	cached, err := p.inFolder(ctx, aptCacheDir)
	if err != nil {
		return err
	}
	for _, pkg := range p.inv.Database.Packages {
		key := pkg.Name + " " + pkg.Version + " " + pkg.Architecture
		if !want[key] {
			continue
		}
		if f, ok := cached[cachedName(pkg)]; ok {
			p.take(BundleItem{Path: f.Path, Size: f.Size, Reason: "apt's copy of a package that none of its lists names"})
			continue
		}
		p.Unlisted = append(p.Unlisted, key)
	}
	return nil
}

// cachedName is the name that apt keeps a package file under.
func cachedName(p snapshot.Package) string {
	quote := strings.NewReplacer("%", "%25", "_", "%5f", ":", "%3a")
	return quote.Replace(p.Name) + "_" + quote.Replace(p.Version) + "_" +
		strings.ReplaceAll(quote.Replace(p.Architecture), ".", "%2e") + ".deb"
}

// scanIndex calls fn with the name, version and architecture of each stanza.
func scanIndex(ctx context.Context, name string, r io.Reader, fn func(pkg string)) error {
	var err error
	switch path.Ext(name) {
	case ".xz":
		r, err = xz.NewReader(r, 64<<20)
	case ".gz":
		r, err = gzip.NewReader(r)
	case ".bz2":
		r = bzip2.NewReader(r)
	case ".lz4":
		r = lz4.NewReader(r)
	case ".zst":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20)); err == nil {
			defer z.Close()
			r = z
		}
	}
	if err != nil {
		return err
	}
	in := bufio.NewScanner(&abortable{r, ctx})
	in.Buffer(make([]byte, 64<<10), 4<<20)
	var field [3]string
	for in.Scan() {
		line := in.Text()
		for i, key := range [...]string{"Package: ", "Version: ", "Architecture: "} {
			if v, ok := strings.CutPrefix(line, key); ok {
				field[i] = strings.TrimSpace(v)
			}
		}
		if line == "" {
			fn(field[0] + " " + field[1] + " " + field[2])
			field = [3]string{}
		}
	}
	fn(field[0] + " " + field[1] + " " + field[2])
	return in.Err()
}
