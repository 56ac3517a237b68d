package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/stead-env/stead/snapshot"
)

// hostFiles reads files of a host through links, which snapshot.Host reports and
// never follows: a link leads where it would lead with the host's root as the
// root.
type hostFiles struct {
	host  snapshot.Host
	known map[string]snapshot.File // by path; Type 0 for one that isn't there
	note  func(format string, args ...any)
}

func newHostFiles(h snapshot.Host, note func(string, ...any)) *hostFiles {
	return &hostFiles{host: h, known: make(map[string]snapshot.File), note: note}
}

// maxFiles bounds what is listed of one folder of a host.
const maxFiles = 100_000

// errFound ends a listing early.
var errFound = errors.New("found")

// lstat looks at one path, without what is below it.
func (h *hostFiles) lstat(ctx context.Context, name string) (snapshot.File, error) {
	if f, ok := h.known[name]; ok {
		return f, nil
	}
	var file snapshot.File
	err := h.host.Files(ctx, name, func(f snapshot.File, err error) error {
		if err != nil {
			return err
		}
		if f.Path == name {
			file = f
		}
		return errFound
	})
	if err != nil && !errors.Is(err, errFound) {
		return file, fmt.Errorf("looking at /%s: %w", name, err)
	}
	h.known[name] = file
	return file, nil
}

// resolve follows the links of a path. A path that isn't there is "".
func (h *hostFiles) resolve(ctx context.Context, name string) (string, error) {
	return snapshot.Follow(name, func(p string) (snapshot.File, error) { return h.lstat(ctx, p) })
}

// list lists the files in a folder, by the names that they have there, with links
// to files followed. A folder that isn't there is empty.
func (h *hostFiles) list(ctx context.Context, dir string) (map[string]snapshot.File, error) {
	real, err := h.resolve(ctx, dir)
	if err != nil || real == "" {
		return nil, err
	}
	var links []string
	files := make(map[string]snapshot.File)
	err = h.host.Files(ctx, real, func(f snapshot.File, err error) error {
		switch {
		case err != nil: // its packages are looked for elsewhere
			h.note("looking at /%s: %v", f.Path, err)
			return nil
		case f.Path == real:
			return nil
		case len(files)+len(links) == maxFiles:
			return fmt.Errorf("more than %d files", maxFiles)
		}
		h.known[f.Path] = f
		name := path.Join(dir, path.Base(f.Path))
		switch f.Type {
		case snapshot.Dir:
			return fs.SkipDir
		case snapshot.Regular:
			files[name] = f
		case snapshot.Symlink:
			links = append(links, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing /%s: %w", dir, err)
	}
	for _, name := range links {
		real, err := h.resolve(ctx, name)
		if err != nil || real == "" {
			continue // a link to nowhere
		}
		if f, err := h.lstat(ctx, real); err == nil && f.Type == snapshot.Regular {
			files[name] = f
		}
	}
	return files, nil
}

// slurp reads small files whole, by the names given; those that can't be read or
// are longer than limit are in failed.
func (h *hostFiles) slurp(ctx context.Context, names []string, limit int64) (
	content map[string][]byte, failed map[string]error, err error) {
	content, failed = make(map[string][]byte), make(map[string]error)
	asked := make(map[string][]string)
	var paths []string
	for _, name := range names {
		real, err := h.resolve(ctx, name)
		switch {
		case err != nil:
			failed[name] = err
		case real == "":
			failed[name] = fmt.Errorf("reading /%s: no such file", name)
		default:
			if asked[real] == nil {
				paths = append(paths, real)
			}
			asked[real] = append(asked[real], name)
		}
	}
	err = h.host.Read(ctx, paths, func(p string, r io.Reader, err error) error {
		var data []byte
		if err == nil {
			data, err = readAtMost(r, limit)
		}
		for _, name := range asked[p] {
			if err != nil {
				failed[name] = fmt.Errorf("reading /%s: %w", name, err)
			} else {
				content[name] = data
			}
		}
		return nil
	})
	return content, failed, err
}

// readAtMost reads all of r, or fails when that is more than limit bytes.
func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("it is longer than %d bytes", limit)
	}
	return data, err
}
