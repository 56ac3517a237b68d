package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxLinks bounds the links on one path, as the kernel does: path_resolution(7).
const maxLinks = 40

// inside resolves paths as a process in the session would, to places on this
// machine: through the root's own links, never out of it, and into the mounts.
type inside struct {
	root   string
	mounts []Mount // Target is resolved; a later one covers an earlier one
}

// base returns the mount or root that a path inside, free of links, lies in, and
// the rest of the path below it.
func (in *inside) base(p string) (dir, rest string) {
	dir, rest = in.root, strings.TrimPrefix(p, "/")
	best := 0
	for _, m := range in.mounts {
		if below, ok := under(p, m.Target); ok && len(m.Target) >= best {
			dir, rest, best = m.Source, below, len(m.Target)
		}
	}
	return dir, rest
}

// under reports whether p is dir or lies below it, and the path from there.
func under(p, dir string) (rest string, ok bool) {
	if p == dir || dir == "/" {
		return strings.TrimPrefix(p[len(dir):], "/"), true
	}
	rest, ok = strings.CutPrefix(p, dir+"/")
	return rest, ok
}

func (in *inside) host(p string) string {
	dir, rest := in.base(p)
	return filepath.Join(dir, rest)
}

// resolve follows every link in p and returns a path inside that has none. What
// isn't there stays as it is written.
func (in *inside) resolve(p string) (string, error) {
	done, left, links := "/", strings.Split(p, "/"), 0
	for len(left) > 0 {
		name := left[0]
		left = left[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, name)
		target, err := os.Readlink(in.host(next))
		if err != nil { // not a link, or nothing
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("resolving %s: too many links", p)
		}
		if strings.HasPrefix(target, "/") {
			done = "/"
		}
		left = append(strings.Split(target, "/"), left...)
	}
	return done, nil
}

// Resolve is the path that p leads to in a root filesystem, for a process in it,
// free of links. What isn't there stays as it is written.
func Resolve(root, p string) (string, error) {
	return (&inside{root: root}).resolve(p)
}

// make creates a mount point at p, a path inside that is free of links. record is
// told what is missing, before any of it is made: paths relative to the mount or root
// that p lies in, those of folders with a slash at the end.
func (in *inside) make(p string, folder bool, record func(missing []string) error) error {
	dir, rest := in.base(p)
	if rest == "" {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var missing []string
	parts := strings.Split(rest, "/")
	for i := range parts {
		at := strings.Join(parts[:i+1], "/")
		switch _, err := root.Lstat(at); {
		case err == nil:
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if i < len(parts)-1 || folder {
			at += "/"
		}
		missing = append(missing, at)
	}
	if err := record(missing); err != nil {
		return err
	}
	for _, at := range missing {
		name, isFolder := strings.CutSuffix(at, "/")
		// The umask of this process is not the session's business.
		if isFolder {
			if err = root.Mkdir(name, 0o755); err == nil {
				err = root.Chmod(name, 0o755)
			}
		} else if err = root.WriteFile(name, nil, 0o644); err == nil {
			err = root.Chmod(name, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// MountPoints resolves the mounts of spec inside root, the writable view of the
// root filesystem, and makes the mount points that are missing there, so that
// none is ever made in the root filesystem itself. It returns spec with the resolved
// targets, outer ones first, and the paths that were made, relative to root: in
// earlier sessions too, where Upper is kept.
func MountPoints(spec Spec, root string) (resolved Spec, made []string, err error) {
	in := &inside{root: root}
	points, err := openPoints(spec, root)
	if err != nil {
		return Spec{}, nil, err
	}
	defer points.close()
	list := slices.Clone(spec.Mounts)
	slices.SortStableFunc(list, func(a, b Mount) int {
		return strings.Count(path.Clean(a.Target), "/") - strings.Count(path.Clean(b.Target), "/")
	})
	for _, m := range list {
		wrap := func(err error) error {
			return &Error{Op: fmt.Sprintf("mounting %s at %s", m.Source, m.Target), Code: CodeEngine, Err: err}
		}
		info, err := os.Stat(m.Source)
		if err != nil {
			return Spec{}, nil, wrap(err)
		}
		if m.Target, err = in.resolve(m.Target); err != nil {
			return Spec{}, nil, wrap(err)
		}
		if err := coverable(m.Target); err != nil {
			return Spec{}, nil, &Error{Op: fmt.Sprintf("mounting %s at %s", m.Source, m.Target), Code: CodeEngine, Err: err,
				Remedy: "mount it at another place: --mount SOURCE:TARGET"}
		}
		record := func([]string) error { return nil }
		if _, rest := in.base(m.Target); in.host(m.Target) == filepath.Join(root, rest) {
			record = points.add
		}
		if err := in.make(m.Target, info.IsDir(), record); err != nil {
			return Spec{}, nil, wrap(err)
		}
		in.mounts = append(in.mounts, m)
	}
	spec.Mounts = in.mounts
	return spec, points.paths(), nil
}

// WriteFiles writes the Files of spec into dir and returns spec with a read-only
// mount for each.
func WriteFiles(spec Spec, dir string) (Spec, error) {
	spec.Mounts = slices.Clone(spec.Mounts)
	for i, f := range spec.Files {
		name := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(name, f.Content, 0o644); err != nil {
			return Spec{}, err
		}
		// The umask of this process is not the session's business.
		if err := os.Chmod(name, 0o644); err != nil {
			return Spec{}, err
		}
		spec.Mounts = append(spec.Mounts, Mount{Source: name, Target: f.Path, ReadOnly: true})
	}
	spec.Files = nil
	if spec.Kernel != nil {
		var err error
		if spec.Kernel, err = spec.Kernel.write(dir); err != nil {
			return Spec{}, err
		}
	}
	return spec, nil
}

// Lookup reports why the first word of the session's command can't be executed,
// or nil: the same search as execvp(3), in the writable root and the mounts.
func Lookup(spec Spec, root string) error {
	in := &inside{root: root, mounts: spec.Mounts}
	name := spec.Command[0]
	fail := func(code int, text string) error {
		return &Error{Op: "executing " + name, Code: code, Err: errors.New(text)}
	}
	if name == "" {
		return &Error{Op: "executing the command", Code: CodeNotFound, Err: errors.New("its name is empty")}
	}
	candidates := []string{name}
	if !strings.Contains(name, "/") {
		candidates = nil
		for _, dir := range strings.Split(SearchPath(spec.Env), ":") {
			candidates = append(candidates, dir+"/"+name)
		}
	}
	denied := ""
	for _, c := range candidates {
		if !strings.HasPrefix(c, "/") {
			c = path.Join("/", spec.Dir) + "/" + c
		}
		p, err := in.resolve(c)
		if err != nil {
			continue
		}
		info, err := os.Stat(in.host(p))
		switch {
		case err != nil:
		case info.IsDir():
			denied = "it is a folder"
		case info.Mode()&0o111 == 0:
			denied = "permission denied"
		default:
			if bad := in.format(p); bad != nil {
				bad.Op = "executing " + name
				return bad
			}
			return nil
		}
	}
	if denied != "" {
		return fail(CodeNotExecutable, denied)
	}
	return fail(CodeNotFound, "no such command in "+spec.Name)
}

// SearchPath is PATH in env, or what execvp(3) takes where there is none.
func SearchPath(env []string) string {
	for _, v := range slices.Backward(env) {
		if dirs, ok := strings.CutPrefix(v, "PATH="); ok {
			return dirs
		}
	}
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}
