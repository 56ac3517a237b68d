package envs

import (
	"archive/tar"
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// extract brings what isn't known out of a delta that the store had: of that the snapshot
// made no copies, and the host isn't asked twice.
func (x *indexFiles) extract(ctx context.Context, st *store.Store, delta lock.Delta, known *knownRecords) error {
	need := map[string][]string{} // paths, by the one that the delta has their content at
	for _, f := range x.files {
		if _, ok := x.trees[f.Path]; ok || f.Type != snapshot.Regular || x.instead[f.Path] != nil ||
			x.contents.copied(f) != nil || known.has(f.Digest) {
			continue
		}
		at := cmp.Or(f.Link, f.Path)
		need[at] = append(need[at], f.Path)
	}
	if len(need) == 0 {
		return nil
	}
	if err := x.contents.moreSpools(1); err != nil {
		return err
	}
	blob, err := st.OpenBlob(delta.Digest())
	if err == nil {
		defer blob.Close()
		x.extracted = make(map[string]memory, len(need))
		err = x.readDelta(ctx, tar.NewReader(blob), need)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("reading the delta %s: %w", delta.Digest(), err)
	}
	return err
}

func (x *indexFiles) readDelta(ctx context.Context, layer *tar.Reader, need map[string][]string) error {
	for len(need) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := layer.Next()
		if err == io.EOF {
			return nil // what isn't there is asked for again, and missing then
		}
		if err != nil {
			return err
		}
		paths := need[h.Name]
		if h.Typeflag != tar.TypeReg || len(paths) == 0 {
			continue
		}
		delete(need, h.Name)
		kept, err := x.extractOne(layer, h)
		if err != nil {
			return err
		}
		for _, p := range paths {
			x.extracted[p] = kept
		}
	}
	return nil
}

// headBytes are enough to tell that a file is no object, and all that an index takes of
// one that may not be executed and isn't named as a library.
const headBytes = 4 << 10

// extractOne copies one file of a delta, or the beginning of one that is no object.
func (x *indexFiles) extractOne(r io.Reader, h *tar.Header) (memory, error) {
	head := make([]byte, min(h.Size, headBytes))
	if _, err := io.ReadFull(r, head); err != nil {
		return memory{}, err
	}
	s := x.contents.spools[0]
	at := s.end
	_, err := s.Write(head)
	if err == nil && (strings.HasPrefix(string(head), elf.ELFMAG) || h.Size <= maxSmall) {
		_, err = io.Copy(s, r)
	}
	if err == nil {
		err = s.keep()
	}
	if err != nil {
		return memory{}, errors.Join(err, s.drop(at))
	}
	return memory{io.NewSectionReader(s.f, at, s.end-at)}, nil
}

// maxSmall is the size in bytes of a file that is taken as a whole, whatever it is.
const maxSmall = 32 << 20
