package store

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/snapshot"
)

// Contents finds files in the store's trees by the SHA-256 of what is in them.
type Contents struct {
	trees []Item
	at    map[[sha256.Size]byte]contentPlace
}

// contentPlace is a line of a tree's manifest: there may be hundreds of thousands.
type contentPlace struct {
	tree   uint32
	offset uint32
}

// Contents reads the manifests of all trees. A tree that another process removes
// meanwhile, or whose manifest is damaged, holds nothing.
func (s *Store) Contents(ctx context.Context) (*Contents, error) {
	c := &Contents{at: map[[sha256.Size]byte]contentPlace{}}
	dirs, err := os.ReadDir(s.path(Trees))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		name, mapping := Parse(d.Name())
		it, ok := s.Find(Trees, name)
		if !ok || mapping != s.owners.name {
			continue
		}
		c.trees = append(c.trees, it)
		if err := c.read(uint32(len(c.trees) - 1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return c, nil
}

// read takes the digests out of a manifest, without the rest: see Manifest.WriteTo.
func (c *Contents) read(tree uint32) error {
	f, err := os.Open(c.trees[tree].ManifestPath())
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 64<<10)
	for offset := 0; ; {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if fields := strings.SplitN(line, " ", 8); len(fields) == 8 && fields[0] == string(snapshot.Regular) {
			var sum [sha256.Size]byte
			if n, err := hex.Decode(sum[:], []byte(fields[6][:min(len(fields[6]), 2*sha256.Size)])); err == nil && n == len(sum) {
				c.at[sum] = contentPlace{tree, uint32(offset)}
			}
		}
		offset += len(line)
	}
}

// Open opens a file with that content, in lower-case hex; the error is
// fs.ErrNotExist where there is none. Reading it ends with a MismatchError if the
// file isn't what it was.
func (c *Contents) Open(sum string) (io.ReadCloser, error) {
	raw, err := hex.DecodeString(sum)
	if err != nil || len(raw) != sha256.Size {
		return nil, fmt.Errorf("%q is no SHA-256", sum)
	}
	place, ok := c.at[[sha256.Size]byte(raw)]
	if !ok {
		return nil, fs.ErrNotExist
	}
	tree := c.trees[place.tree]
	manifest, err := os.Open(tree.ManifestPath())
	if err != nil {
		return nil, err
	}
	defer manifest.Close()
	line, err := bufio.NewReader(io.NewSectionReader(manifest, int64(place.offset), 1<<20)).ReadString('\n')
	if err != nil {
		return nil, err
	}
	entry, err := parseEntry(strings.TrimSuffix(line, "\n"))
	if err != nil {
		return nil, err
	}
	f, err := os.OpenInRoot(tree.Root(), entry.Path)
	if err != nil {
		return nil, err
	}
	return Verify(f, false, digest.NewDigestFromEncoded(digest.SHA256, sum))
}
