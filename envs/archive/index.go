package archive

import (
	"compress/bzip2"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
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

// scan reads the plain bytes of an index as they come. What it took from them counts
// once readIndex has returned no error: until then nobody vouches for it.
type scan func(r io.Reader) error

// readIndex reads an index. It fails unless the file, or what it decompresses to, is
// what stem (the path without an ending for compression) is listed as.
func readIndex(rel *release, stem, ending string, r io.Reader, read scan) error {
	raw := newSummed(r)
	packed, byFile := rel.files[stem+ending]
	plainly, byContent := rel.files[stem]
	if !byFile && !byContent {
		return errors.New("the signed Release does not list it")
	}
	dec, done, err := decompress(ending, raw)
	if err != nil {
		return fmt.Errorf("decompressing it: %w", err)
	}
	defer done()
	limit := int64(maxIndex)
	if byContent && ending != "" {
		limit = min(limit, plainly.size)
	}
	content := newSummed(io.LimitReader(dec, limit+1))
	if err := read(content); err != nil {
		return fmt.Errorf("reading it: %w", err)
	}
	if content.n > limit {
		return fmt.Errorf("%w: it has more than %d bytes", errUnlisted, limit)
	}
	if byContent && content.is(plainly) {
		return nil
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(raw, maxIndex)); err != nil { // what a decoder leaves
		return err
	}
	if byFile && raw.is(packed) {
		return nil
	}
	return errUnlisted
}
