package envs

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// knownContent is a line of the cache, but for the first.
type knownContent struct {
	Version []byte `json:"version"`
	SHA256  []byte `json:"sha256"`
	Reason  string `json:"reason,omitempty"`
}

// knownRules is its first line.
type knownRules struct {
	Rules string `json:"rules"`
}

// load reads what was learned under the same rules, when it is first needed.
func (c *contents) load() error {
	if c.loaded {
		return nil
	}
	c.loaded = true
	f, err := os.Open(c.cache)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines, err := intact(f)
	if err != nil {
		return nil // it was written by somebody else, or is damaged: all is read again
	}
	dec := json.NewDecoder(bufio.NewReader(lines))
	var under knownRules
	if err := dec.Decode(&under); err != nil || under.Rules != c.rules.Version() {
		return nil
	}
	for {
		var k knownContent
		err := dec.Decode(&k)
		if err != nil || len(k.Version) != len(version{}) || len(k.SHA256) != sha256.Size {
			return nil // its end, or damaged: the rest is read again
		}
		v := version(k.Version)
		c.known[v] = readContent{sha256: [sha256.Size]byte(k.SHA256)}
		if k.Reason != "" {
			c.reasons[v] = k.Reason
		}
	}
}

// intact gives the lines of a cache file without the SHA-256 of them that ends it.
func intact(f *os.File) (io.Reader, error) {
	const trailer = 2*sha256.Size + 1
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := fi.Size() - trailer
	if size < 0 {
		return nil, io.ErrUnexpectedEOF
	}
	h := sha256.New()
	end := make([]byte, trailer)
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, size)); err != nil {
		return nil, err
	}
	if _, err := f.ReadAt(end, size); err != nil {
		return nil, err
	}
	if string(end) != hex.EncodeToString(h.Sum(nil))+"\n" {
		return nil, errors.New("its sum is wrong")
	}
	return io.NewSectionReader(f, 0, size), nil
}

// remember writes what was learned for the next snapshot of the same address.
func (c *contents) remember() error {
	dir, err := c.cfg.Store.WorkDir("contents")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f, err := os.Create(filepath.Join(dir, "new"))
	if err != nil {
		return err
	}
	w, h := bufio.NewWriter(f), sha256.New()
	enc := json.NewEncoder(io.MultiWriter(w, h))
	err = enc.Encode(knownRules{c.rules.Version()})
	for v, k := range c.known {
		if k.now {
			err = errors.Join(err, enc.Encode(knownContent{v[:], k.sha256[:], c.reasons[v]}))
		}
	}
	_, e := fmt.Fprintf(w, "%x\n", h.Sum(nil))
	if err := errors.Join(err, e, w.Flush(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), c.cache)
}
