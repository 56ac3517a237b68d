package host

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/stead-env/stead/snapshot"
)

// BundleSummary is what became of a plan.
type BundleSummary struct {
	Files, Bytes         int64 // contents that left the host
	Listed               int64 // paths
	Withheld, Unreadable []snapshot.Left
}

// bundler writes one bundle.
type bundler struct {
	*BundlePlan
	tar      *tar.Writer
	listing  *packed
	attrs    bytes.Buffer
	links    map[string]int // numbers of groups of hard links
	sizes    map[string]int64
	manifest *packed
	shut     string          // a folder that stays behind for its name, and what is in it
	unnamed  map[string]bool // paths that may not be named
	hidden   map[string]int  // how many of these are in a folder
	sum      BundleSummary
}

// Write writes the bundle. The order of what is in it depends on the host alone.
func (p *BundlePlan) Write(ctx context.Context, w io.Writer) (*BundleSummary, error) {
	b := &bundler{BundlePlan: p, tar: tar.NewWriter(w), links: map[string]int{}, sizes: map[string]int64{}, hidden: map[string]int{}, unnamed: map[string]bool{},
		listing: newPacked(), manifest: newPacked()}
	for _, i := range p.Items {
		if i.instead != nil {
			b.sizes[i.Path] = int64(len(i.instead))
		}
	}
	rows, unlisted, err := snapshot.Divide(ctx, p.host, p.opts.Rules, p.inv, p.wanted, b.list)
	if err != nil {
		return nil, err
	}
	left, err := b.safe(rows)
	if err != nil {
		return nil, err
	}
	for i, u := range unlisted {
		unlisted[i].Reason = strings.TrimPrefix(u.Reason, "read /"+u.Path+": ")
	}
	b.notes.unlisted = unlisted
	header := BundleHeader{Maker: p.opts.Maker, Kernel: p.live.Kernel, KernelVersion: p.live.KernelVersion,
		SystemCalls: p.live.SystemCalls, CPU: p.live.CPU, Architecture: p.inv.Database.Architecture,
		Rules: p.opts.Rules.Version(), Keep: p.opts.Keep, Drop: p.opts.Drop, With: p.opts.With}
	err = errors.Join(b.member(memberHeader, header.write()), b.packed(memberListing, b.listing),
		b.member(memberAttributes, b.attrs.Bytes()), b.member(memberLeft, leftRows(left)))
	if err == nil {
		err = b.contents(ctx)
	}
	if err != nil {
		return nil, err
	}
	err = errors.Join(b.noted(memberUnlisted, b.notes.unlisted), b.noted(memberUnreadable, b.notes.unreadable),
		b.noted(memberWithheld, b.notes.withheld), b.member(memberUnchanged, []byte(joined(p.unchanged))),
		b.packed(memberManifest, b.manifest), b.tar.Close())
	b.sum.Withheld, b.sum.Unreadable = b.notes.withheld, append(b.notes.unlisted, b.notes.unreadable...)
	return &b.sum, err
}

func joined(paths []string) string {
	if len(paths) == 0 {
		return ""
	}
	return strings.Join(paths, "\x00") + "\x00"
}

func leftRows(left []snapshot.Left) []byte {
	var b bytes.Buffer
	for _, l := range left {
		fmt.Fprintf(&b, "%s\x00%s\x00%s\x00%d\x00%d\x00", l.Class, l.Reason, l.Path, l.Files, l.Bytes)
	}
	return b.Bytes()
}

// list writes a path to the listing, unless it may not even be named.
func (b *bundler) list(f snapshot.File) error {
	if b.shut != "" && strings.HasPrefix(f.Path, b.shut+"/") {
		b.unnamed[f.Path] = true
		return nil
	}
	if err := b.speakable(&f); err != nil {
		return err
	}
	if err := b.attributes(&f); err != nil {
		return err
	}
	if n, ok := b.sizes[f.Path]; ok {
		f.Size = n
	}
	group := 0
	if f.Link != "" && f.Type == snapshot.Regular {
		if b.links[f.Link] == 0 {
			b.links[f.Link] = len(b.links) + 1
		}
		group = b.links[f.Link]
	}
	b.sum.Listed++
	_, err := b.listing.Write(appendListed(nil, &f, group))
	return err
}

func (b *bundler) withhold(f, reason string) {
	b.notes.withheld = append(b.notes.withheld, snapshot.Left{Path: f, Reason: reason})
}

// speakable takes secrets out of a path's last name and of where a link leads. Such an
// entry becomes a file that was withheld.
func (b *bundler) speakable(f *snapshot.File) error {
	dir, name := split(f.Path)
	if len(name) >= shortestSecret {
		reason, err := b.opts.Rules.Content(f.Path, strings.NewReader(name))
		if err != nil {
			return err
		}
		if reason != "" {
			if b.unnamed[f.Path] = true; f.Type == snapshot.Dir {
				b.shut = f.Path
			}
			if b.hidden[dir]++; b.hidden[dir] > 1 {
				dir = strings.TrimPrefix(dir+"/…"+strconv.Itoa(b.hidden[dir]), "./")
			} else {
				dir = strings.TrimPrefix(dir+"/…", "./")
			}
			*f = snapshot.File{Path: dir, Type: snapshot.Regular, Mode: f.Mode, Size: f.Size, MTime: f.MTime}
			b.withhold(f.Path, reason+", in its name")
			return nil
		}
	}
	if f.Type != snapshot.Symlink {
		return nil
	}
	reason, err := b.opts.Rules.Content(f.Path, strings.NewReader(f.Target))
	if reason != "" {
		*f = snapshot.File{Path: f.Path, Type: snapshot.Regular, Mode: 0o777, UID: f.UID, GID: f.GID, MTime: f.MTime}
		b.withhold(f.Path, reason)
	}
	return err
}

// attributes writes those of a file, but for secrets.
func (b *bundler) attributes(f *snapshot.File) error {
	for _, name := range slices.Sorted(maps.Keys(f.Xattrs)) {
		value := f.Xattrs[name]
		if strings.HasPrefix(name, "user.") {
			reason, err := b.opts.Rules.Content(f.Path, strings.NewReader(strings.TrimPrefix(name, "user.")+" = "+value))
			if err != nil {
				return err
			}
			if reason != "" {
				if f.Type != snapshot.Dir {
					b.withhold(f.Path, reason+", in an attribute")
				}
				continue
			}
		}
		fmt.Fprintf(&b.attrs, "%s\x00%s\x00%x\x00", f.Path, name, value)
	}
	return nil
}

func (b *bundler) head(name string, size int64) error {
	return b.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, Format: tar.FormatGNU})
}

func (b *bundler) member(name string, content []byte) error {
	if err := b.head(name, int64(len(content))); err != nil {
		return err
	}
	_, err := b.tar.Write(content)
	return err
}

func (b *bundler) packed(name string, p *packed) error {
	if err := b.head(name, p.n); err != nil {
		return err
	}
	return p.copyTo(b.tar)
}

// safe cuts paths off where a name holds a secret.
func (b *bundler) safe(rows []snapshot.Left) ([]snapshot.Left, error) {
	for i, row := range rows {
		at := 0
		for name := range strings.SplitSeq(row.Path, "/") {
			if len(name) >= shortestSecret {
				reason, err := b.opts.Rules.Content(row.Path, strings.NewReader(name))
				if err != nil {
					return nil, err
				}
				if reason != "" {
					rows[i].Path, rows[i].Reason = row.Path[:at]+"…", reason+", in its name"
					break
				}
			}
			at += len(name) + 1
		}
	}
	return rows, nil
}

// shortestSecret is the length of the shortest token that can be told by its shape.
const shortestSecret = 16

func (b *bundler) noted(name string, rows []snapshot.Left) error {
	rows, err := b.safe(rows)
	if err != nil {
		return err
	}
	slices.SortFunc(rows, func(x, y snapshot.Left) int { return cmp.Compare(x.Path, y.Path) })
	rows = slices.CompactFunc(rows, func(x, y snapshot.Left) bool { return x.Path == y.Path })
	var buf bytes.Buffer
	for _, r := range rows {
		fmt.Fprintf(&buf, "%s\x00%s\x00", r.Path, r.Reason)
	}
	return b.member(name, buf.Bytes())
}

const (
	atOnce = 512     // files that one reading of the host is asked for
	small  = 4 << 20 // bytes of a file that is read once
	piece  = 1 << 20 // of a larger one, that is compared before it is written
)

// contents writes the files of the plan.
func (b *bundler) contents(ctx context.Context) error {
	withheld := map[string]bool{}
	for _, w := range b.notes.withheld {
		withheld[w.Path] = true
	}
	done := 0
	for items := range slices.Chunk(b.Items, atOnce) {
		b.opts.Progress.Report(snapshot.Event{Stage: "writing", Item: "/" + items[0].Path, Done: int64(done), Total: int64(len(b.Items)), Unit: "files"})
		done += len(items)
		reasons := map[string]string{}
		var paths []string
		for _, i := range items {
			if i.instead != nil {
				if err := b.send(i.Path, i.Reason, i.instead); err != nil {
					return err
				}
			} else if !withheld[i.Path] && !b.unnamed[i.Path] {
				reasons[i.Path] = i.Reason
				paths = append(paths, i.Path)
			}
		}
		large := map[string]*seen{}
		var again []string
		err := b.host.Read(ctx, paths, func(f string, r io.Reader, err error) error {
			if err != nil {
				return b.unreadable(ctx, f, err)
			}
			s, err := b.first(ctx, f, reasons[f], r)
			if s != nil {
				large[f], again = s, append(again, f)
			}
			return err
		})
		if err == nil && len(again) > 0 {
			err = b.host.Read(ctx, again, func(f string, r io.Reader, err error) error {
				if err != nil {
					return b.unreadable(ctx, f, err)
				}
				return b.second(ctx, f, reasons[f], large[f], r)
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bundler) unreadable(ctx context.Context, f string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("it vanished while the bundle was made")
	}
	b.notes.unreadable = append(b.notes.unreadable, snapshot.Left{Path: f, Reason: err.Error()})
	return nil
}

// send writes a content that was searched.
func (b *bundler) send(f, reason string, content []byte) error {
	sum := sha256.Sum256(content)
	if err := b.note(f, reason, int64(len(content)), hex.EncodeToString(sum[:])); err != nil {
		return err
	}
	return b.member(contentPrefix+f, content)
}

func (b *bundler) note(f, reason string, size int64, sum string) error {
	b.sum.Files++
	b.sum.Bytes += size
	_, err := b.manifest.Write((&sentFile{f, sum, reason, size}).append(nil))
	return err
}

// seen is what is known of a large file that was searched: it is written when it is
// still the same.
type seen struct {
	size   int64
	sum    string
	pieces [][sha256.Size]byte
}

// first searches a file, and writes it if it is small.
func (b *bundler) first(ctx context.Context, f, reason string, r io.Reader) (*seen, error) {
	head := make([]byte, 0, 16<<10)
	in := &abortable{r, ctx}
	buf := bytes.NewBuffer(head)
	if _, err := io.CopyN(buf, in, small); err != nil && err != io.EOF {
		return nil, b.unreadable(ctx, f, err)
	}
	if buf.Len() < small {
		return nil, b.judge(f, reason, buf.Bytes())
	}
	s := &seen{}
	all := sha256.New()
	pieces := &pieceHash{s: s, h: sha256.New()}
	tee := io.TeeReader(io.MultiReader(buf, in), io.MultiWriter(all, pieces))
	why, err := b.opts.Rules.Content(f, tee)
	if err == nil && why == "" {
		_, err = io.Copy(io.Discard, tee)
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, b.unreadable(ctx, f, err)
	case why != "":
		b.withhold(f, why)
		return nil, nil
	}
	pieces.flush()
	s.sum = hex.EncodeToString(all.Sum(nil))
	return s, nil
}

// judge searches a small file and writes it.
func (b *bundler) judge(f, reason string, content []byte) error {
	why, err := b.opts.Rules.Content(f, bytes.NewReader(content))
	if err != nil {
		return err
	}
	if why != "" && inSources(f) {
		mask, ok, err := masked(b.opts.Rules, f, content)
		if err != nil {
			return err
		}
		if ok {
			return b.send(f, reason+", without passwords", mask)
		}
	}
	if why != "" {
		b.withhold(f, why)
		return b.essential(f, why)
	}
	return b.send(f, reason, content)
}

// essential fails where nothing can be made of a bundle that lacks a file.
func (b *bundler) essential(f, why string) error {
	name, ok := strings.CutPrefix(f, "var/lib/dpkg/")
	if !ok || strings.HasPrefix(name, "info/") && !strings.HasSuffix(name, ".list") && !strings.HasSuffix(name, ".md5sums") {
		return nil
	}
	return &EssentialError{f, why}
}

// EssentialError says that the package database itself may not leave.
type EssentialError struct{ Path, Reason string }

func (e *EssentialError) Error() string {
	return fmt.Sprintf("writing the bundle: /%s can't leave the host: %s", e.Path, e.Reason)
}

// Hint says how to answer.
func (e *EssentialError) Hint() string { return "where it holds no secret: --keep /" + e.Path }

// second writes a large file, piece by piece as each is found to be the same.
func (b *bundler) second(ctx context.Context, f, reason string, s *seen, r io.Reader) error {
	if err := b.head(contentPrefix+f, s.size); err != nil {
		return err
	}
	if err := b.note(f, reason, s.size, s.sum); err != nil {
		return err
	}
	buf := make([]byte, piece)
	same := true
	for n, p := range s.pieces {
		want := min(piece, s.size-int64(n)*piece)
		part := buf[:want]
		if same {
			_, err := io.ReadFull(&abortable{r, ctx}, part)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			same = err == nil && sha256.Sum256(part) == p
		}
		if !same { // its sum tells that it is not what it was
			clear(part)
		}
		if _, err := b.tar.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// pieceHash hashes what is written to it piece by piece.
type pieceHash struct {
	s *seen
	h hash.Hash
	n int
}

func (p *pieceHash) Write(b []byte) (int, error) {
	p.s.size += int64(len(b))
	for rest := b; len(rest) > 0; {
		n := min(len(rest), piece-p.n)
		p.h.Write(rest[:n]) //nolint:errcheck // a hash takes everything
		if p.n += n; p.n == piece {
			p.flush()
		}
		rest = rest[n:]
	}
	return len(b), nil
}

func (p *pieceHash) flush() {
	if p.n > 0 {
		p.s.pieces = append(p.s.pieces, [sha256.Size]byte(p.h.Sum(nil)))
		p.h.Reset()
		p.n = 0
	}
}

// packed is text that is kept compressed until its size is known.
type packed struct {
	buf bytes.Buffer
	z   *zstd.Encoder
	n   int64
}

func newPacked() *packed {
	p := &packed{}
	p.z, _ = zstd.NewWriter(&p.buf, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(256<<10)) // the options are good
	return p
}

func (p *packed) Write(b []byte) (int, error) {
	p.n += int64(len(b))
	return p.z.Write(b)
}

func (p *packed) copyTo(w io.Writer) error {
	if err := p.z.Close(); err != nil {
		return err
	}
	z, err := zstd.NewReader(&p.buf, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer z.Close()
	_, err = io.Copy(w, z)
	return err
}
