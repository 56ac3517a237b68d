package host

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// Where find prints nothing but names, as busybox's does, three questions take the place
// of one: the names, what stat says of them, and where links lead.

// maxNameBytes bounds the bytes of the names, which are held in memory.
const maxNameBytes = 96 << 20

// stat lists the host in three answers.
func (s *Shell) stat(ctx context.Context, l *listing, stdin string, c *complaints) error {
	names, err := s.names(ctx, stdin, c)
	if err != nil {
		return err
	}
	targets, err := s.targets(ctx, names.links, c)
	if err != nil {
		return err
	}
	w := &lister{s: s, l: l, links: newLinker(), c: c}
	return s.ask(ctx, question{script: s.statScript(), stdin: &nameStream{list: names.all}, zip: s.zipped(), complain: c.line,
		read: func(r *bufio.Reader) error {
			in := &statReader{r: r, names: names.all, end: endWhole}
			for {
				f, err := in.next()
				if err == io.EOF {
					if _, err = r.Discard(len(endWhole) + 1); err != nil {
						return errBroken
					}
					status, err := (&foundReader{r: r}).number(10, 16)
					if err == nil && status > 123 { // xargs(1): stat itself failed
						err = fmt.Errorf("stat ended with status %d", status)
					}
					return errors.Join(err, l.done())
				}
				if f.Type == snapshot.Symlink {
					f.Target = targets[f.Path]
				}
				if err == nil {
					err = w.add(f)
				}
				if err != nil {
					return err
				}
			}
		}})
}

// nameList are the paths of a host as find prints them.
type nameList struct{ all, links []string }

// names asks for all names, and brings them into the order of a walk.
func (s *Shell) names(ctx context.Context, stdin string, c *complaints) (nameList, error) {
	var n nameList
	read := func(to *[]string) func(*bufio.Reader) error {
		return func(r *bufio.Reader) error {
			size := 0
			in := &foundReader{r: r}
			for {
				b, err := in.field()
				if err != nil {
					return err
				}
				if string(b) == endWhole {
					status, err := in.number(10, 16)
					if err == nil && status > 1 {
						err = fmt.Errorf("find ended with status %d", status)
					}
					return err
				}
				if size += len(b) + 16; size > maxNameBytes {
					return fmt.Errorf("its names take more than %d bytes, and it has no GNU find", maxNameBytes)
				}
				*to = append(*to, string(b))
			}
		}
	}
	err := s.ask(ctx, question{script: s.namesScript(""), stdin: strings.NewReader(stdin), zip: s.zipped(), complain: c.line, read: read(&n.all)})
	if err == nil {
		err = s.ask(ctx, question{script: s.namesScript("l"), stdin: strings.NewReader(stdin), zip: s.zipped(), read: read(&n.links)})
	}
	slices.SortFunc(n.all, walkOrder)
	n.all = slices.Compact(n.all)
	return n, err
}

// walkOrder puts a folder before what is in it, and that before what comes after the
// folder: the slash comes before all other bytes.
func walkOrder(a, b string) int {
	for i := range min(len(a), len(b)) {
		if x, y := a[i], b[i]; x != y {
			switch {
			case x == '/':
				return -1
			case y == '/':
				return 1
			}
			return cmp.Compare(x, y)
		}
	}
	return cmp.Compare(len(a), len(b))
}

// targets asks where links lead.
func (s *Shell) targets(ctx context.Context, links []string, c *complaints) (map[string]string, error) {
	targets := map[string]string{}
	if len(links) == 0 {
		return targets, nil
	}
	err := s.ask(ctx, question{script: s.linkScript(), stdin: &nameStream{list: links}, zip: s.zipped(), complain: c.line,
		read: func(r *bufio.Reader) error {
			return archives(r, func(h *tar.Header, _ io.Reader) error {
				if h.Typeflag == tar.TypeSymlink {
					targets[relative(h.Name)] = h.Linkname
				}
				return nil
			}, nil)
		}})
	return targets, err
}

// nameStream is a list of names, each ended by NUL.
type nameStream struct {
	list []string
	rest string
}

func (j *nameStream) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if j.rest == "" {
			if len(j.list) == 0 {
				if n == 0 {
					return 0, io.EOF
				}
				break
			}
			j.rest, j.list = j.list[0]+"\x00", j.list[1:]
		}
		k := copy(p[n:], j.rest)
		n, j.rest = n+k, j.rest[k:]
	}
	return n, nil
}
