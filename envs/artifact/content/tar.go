package content

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"
	"path"
	"strings"
)

// tarFile reads a tar file, whatever compressed it.
func (a *archive) tarFile(ctx context.Context, r io.Reader) error {
	if all, ok := r.(*io.SectionReader); ok && a.set.Within == nil && a.At == "" {
		root, err := a.atRoot(ctx, io.NewSectionReader(all, 0, all.Size()))
		if err != nil {
			return err
		}
		if root {
			a.set.At = "/"
		}
	}
	return a.eachTar(ctx, path.Ext(a.set.Name), r, func(h *tar.Header, r io.Reader) error {
		return a.tarEntry(ctx, h, r)
	})
}

// atRoot looks whether the names in a tar file are those of a root's folders. Mostly the
// first one tells that they are not.
func (a *archive) atRoot(ctx context.Context, r io.Reader) (bool, error) {
	var like rootlike
	enough := errors.New("enough")
	err := a.eachTar(ctx, path.Ext(a.set.Name), r, func(h *tar.Header, _ io.Reader) error {
		if like.add(h.Name); like.other {
			return enough
		}
		return nil
	})
	if err != nil && err != enough {
		return false, err
	}
	return like.root && !like.other, nil
}

// eachTar calls fn for each entry of a tar file.
func (a *archive) eachTar(ctx context.Context, ext string, r io.Reader, fn func(*tar.Header, io.Reader) error) error {
	br := bufio.NewReaderSize(r, 64<<10)
	head, _ := br.Peek(8)
	if len(head) == 0 {
		return errors.New("it is empty")
	}
	plain, done, err := a.decompress(compression(head, ext), br)
	if err != nil {
		return err
	}
	defer done()
	tr := tar.NewReader(plain)
	for {
		if err := ctx.Err(); err != nil {
			return stopped{err}
		}
		h, err := tr.Next()
		if err == io.EOF {
			// What follows has to be good too: it is the compressor's checksum.
			_, err := io.Copy(io.Discard, io.LimitReader(plain, 16<<20))
			return err
		}
		if err != nil {
			return err
		}
		if err := fn(h, tr); err != nil {
			return err
		}
	}
}

func (a *archive) tarEntry(ctx context.Context, h *tar.Header, r io.Reader) error {
	f := &File{Type: typeOf(h.FileInfo().Mode()), Mode: modeOf(h.FileInfo()), Size: h.Size}
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeSymlink:
		f.Type, f.Target = Link, h.Linkname
	case tar.TypeLink:
		target, err := a.set.place(h.Linkname)
		if err != nil {
			return err
		}
		f.Type, f.Target, f.Size = HardLink, target, 0
	}
	// A sparse file is longer than what the archive has of it.
	return a.entry(ctx, h.Name, f, &bounded{w: a.walk, r: r})
}

// names is a list without its empty parts.
func names(list string) (out []string) {
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.Join(strings.Fields(part), " "); part != "" {
			out = append(out, part)
		}
	}
	return out
}
