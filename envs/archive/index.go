package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
	"github.com/pierrec/lz4/v4"
)

// The bounds of a Packages index; Debian's main is 50 MB plain, Ubuntu's universe 80.
const (
	maxIndex = 2 << 30 // plain bytes
	maxHits  = 16      // files with the same name, version and architecture
	xzDict   = 64 << 20
	maxValue = 4 << 10 // bytes of a field that is looked at
)

// endings are the compressions of an index, in the order of preference: by what is
// fetched, then by what is quick.
var endings = []string{".xz", ".zst", ".gz", ".bz2", ".lz4", ""}

// cutEnding parts the ending of a compression from a name.
func cutEnding(name string) (stem, ending string) {
	for _, e := range endings {
		if stem, ok := strings.CutSuffix(name, e); ok {
			return stem, e
		}
	}
	return name, ""
}

// decompress returns the plain bytes of a file by the ending of its name, and what
// releases the decoder.
func decompress(ending string, r io.Reader) (io.Reader, func(), error) {
	nothing := func() {}
	switch ending {
	case "":
		return r, nothing, nil
	case ".xz":
		x, err := xz.NewReader(r, xzDict)
		return x, nothing, err
	case ".gz":
		z, err := gzip.NewReader(r)
		return z, nothing, err
	case ".bz2":
		return bzip2.NewReader(r), nothing, nil
	case ".lz4":
		return lz4.NewReader(r), nothing, nil
	case ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(xzDict))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return nil, nil, fmt.Errorf("no decompression for %s", ending)
}

// hit is a stanza of an index that goes by a wanted key.
type hit struct {
	Want
	path   string
	size   int64
	sha256 string
}

// summed hashes and counts what is read through it.
type summed struct {
	r    io.Reader
	hash hash.Hash
	n    int64
}

func newSummed(r io.Reader) *summed { return &summed{r: r, hash: sha256.New()} }

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.hash.Write(p[:n])
	s.n += int64(n)
	return n, err
}

func (s *summed) is(l listed) bool {
	return s.n == l.size && hex.EncodeToString(s.hash.Sum(nil)) == l.sha256
}

// errUnlisted says that an index isn't the one that the Release vouches for.
var errUnlisted = errors.New("it is not the file that the signed Release lists")

// searchIndex reads an index as it comes and keeps what is wanted. Nothing of it is
// believed unless the file, or what it decompresses to, is what stem (the path
// without an ending for compression) is listed as.
func searchIndex(ctx context.Context, rel *release, stem, ending string, r io.Reader, want map[Want]bool) ([]hit, error) {
	raw := newSummed(r)
	packed, byFile := rel.files[stem+ending]
	plainly, byContent := rel.files[stem]
	if !byFile && !byContent {
		return nil, errors.New("the signed Release does not list it")
	}
	dec, done, err := decompress(ending, raw)
	if err != nil {
		return nil, fmt.Errorf("decompressing it: %w", err)
	}
	defer done()
	limit := int64(maxIndex)
	if byContent && ending != "" {
		limit = min(limit, plainly.size)
	}
	content := newSummed(io.LimitReader(dec, limit+1))
	hits, err := scanPackages(ctx, content, want)
	if err != nil {
		return nil, fmt.Errorf("reading it: %w", err)
	}
	if content.n > limit {
		return nil, fmt.Errorf("%w: it has more than %d bytes", errUnlisted, limit)
	}
	if byContent && content.is(plainly) {
		return hits, nil
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(raw, maxIndex)); err != nil { // what a decoder leaves
		return nil, err
	}
	if byFile && raw.is(packed) {
		return hits, nil
	}
	return nil, errUnlisted
}

// record collects the fields of one stanza; its buffers are used again.
type record struct {
	name, version, arch, path, size, sum []byte
}

func (r *record) clear() {
	r.name, r.version, r.arch = r.name[:0], r.version[:0], r.arch[:0]
	r.path, r.size, r.sum = r.path[:0], r.size[:0], r.sum[:0]
}

// field is where the value of a field goes, nil for fields that don't matter.
func (r *record) field(line []byte) (*[]byte, []byte) {
	i := bytes.IndexByte(line, ':')
	if i < 0 {
		return nil, nil
	}
	var to *[]byte
	switch string(line[:i]) {
	case "Package":
		to = &r.name
	case "Version":
		to = &r.version
	case "Architecture":
		to = &r.arch
	case "Filename":
		to = &r.path
	case "Size":
		to = &r.size
	case "SHA256":
		to = &r.sum
	}
	return to, line[i+1:]
}

// scanPackages reads the stanzas of a Packages index and returns those that are
// wanted. Lines may have any length and are not kept.
func scanPackages(ctx context.Context, r io.Reader, want map[Want]bool) (hits []hit, err error) {
	names := make(map[string]bool, len(want))
	for w := range want {
		names[w.Name] = true
	}
	in := bufio.NewReaderSize(r, 64<<10)
	var rec record
	count := make(map[Want]int)
	flush := func() {
		if names[string(rec.name)] {
			h, ok := rec.hit(want)
			if ok && count[h.Want] < maxHits {
				count[h.Want]++
				hits = append(hits, h)
			}
		}
		rec.clear()
	}
	for n := 0; ; n++ {
		if n%65536 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		line, err := in.ReadSlice('\n')
		whole := line
		for errors.Is(err, bufio.ErrBufferFull) { // the rest of a long line
			whole = nil
			_, err = in.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		switch text := bytes.TrimRight(whole, "\r\n"); {
		case whole != nil && len(text) == 0:
			flush()
		case len(text) > 0 && len(text) <= maxValue && text[0] != ' ':
			if to, value := rec.field(text); to != nil {
				*to = append((*to)[:0], bytes.TrimSpace(value)...)
			}
		}
		if err != nil {
			flush()
			return hits, nil
		}
	}
}

// hit makes sense of a stanza; ok is false where it isn't wanted or is malformed.
func (r *record) hit(want map[Want]bool) (h hit, ok bool) {
	h.Want = Want{string(r.name), string(r.version), string(r.arch)}
	if !want[h.Want] && !want[Want{h.Name, "", h.Architecture}] {
		return h, false
	}
	size, err := strconv.ParseInt(string(r.size), 10, 64)
	if err != nil || size <= 0 || !isSHA256(string(r.sum)) {
		return h, false
	}
	h.size, h.sha256 = size, strings.ToLower(string(r.sum))
	h.path = path.Clean(string(r.path))
	if !isLocalPath(h.path) {
		return h, false
	}
	return h, true
}

// isLocalPath reports whether a path stays in its folder.
func isLocalPath(p string) bool {
	return p != "" && p != "." && p[0] != '/' && p != ".." && !strings.HasPrefix(p, "../") &&
		!strings.ContainsFunc(p, isControl)
}
