package envs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/snapshot"
)

// Needed is something that stayed behind although the host's own configuration names it.
type Needed struct {
	Path   string `json:"path"`
	By     string `json:"by"`     // what names it
	Reason string `json:"reason"` // why it stays
	Files  int64  `json:"files"`
	Bytes  int64  `json:"bytes"`
	// Unanswered says that it holds a secret and is missed: whoever takes the snapshot
	// has to say whether it is kept or dropped.
	Unanswered bool `json:"unanswered,omitempty"`
}

const (
	maxUnits    = 20_000    // files of units that are read
	maxUnit     = 256 << 10 // bytes of one
	maxCache    = 8 << 20   // bytes of ld.so.cache
	maxMentions = 50_000
	maxNeeded   = 500
)

// mentions are what the host's configuration names, by path, with who does. Folders
// stand for what is in them.
type mentions struct {
	files   map[string]string
	folders map[string]string
}

func (m *mentions) add(to map[string]string, p, by string) {
	p = strings.TrimPrefix(path.Clean(p), "/")
	if _, again := to[p]; !again && p != "" && p != "." && len(to) < maxMentions && snapshot.ValidPath(p) {
		to[p] = by
	}
}

// of tells what names a path, "" for nothing.
func (m *mentions) of(p string) string {
	if by := m.files[p]; by != "" {
		return by
	}
	return m.folders[path.Dir(p)]
}

// mention reads the units, the search paths of programs and those of libraries. What
// can't be read names nothing.
func (s *snapshotter) mention(ctx context.Context) (*mentions, error) {
	m := &mentions{files: map[string]string{}, folders: map[string]string{}}
	var paths []string
	for _, e := range s.inv.Entries {
		limit := int64(maxUnit)
		if e.Path == "etc/ld.so.cache" {
			limit = maxCache
		}
		if e.Type == snapshot.Regular && e.Size <= limit && len(paths) < maxUnits && reader(e.Path) != nil {
			paths = append(paths, e.Path)
		}
	}
	err := s.host.Read(ctx, paths, func(p string, r io.Reader, err error) error {
		if err != nil && s.contents.original != nil && errors.As(err, new(*snapshot.UnsentError)) {
			if e, ok := s.inv.Lookup(p); ok {
				var c io.ReadCloser
				if c, err = s.contents.original(ctx, e.File); err == nil {
					defer c.Close()
					r = c
				}
			}
		}
		if err != nil {
			return ctx.Err()
		}
		text, err := io.ReadAll(io.LimitReader(r, maxCache))
		if err == nil {
			reader(p)(m, p, text)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("reading units and search paths: %w", err)
	}
	links := snapshot.NewLinks(s.inv.Links)
	for _, all := range []map[string]string{m.files, m.folders} {
		for p, by := range maps.Clone(all) {
			all[links.Locate(p)] = by
		}
	}
	return m, nil
}

// reader is what takes the paths out of a file of the host; nil for any other file.
func reader(p string) func(m *mentions, p string, text []byte) {
	switch p {
	case "etc/login.defs", "etc/environment":
		return readSearchPath
	case "etc/ld.so.conf":
		return readLoaderPath
	case "etc/ld.so.cache":
		return readLoaderCache
	}
	if strings.HasPrefix(p, "etc/ld.so.conf.d/") {
		return readLoaderPath
	}
	for _, dir := range []string{"etc/systemd/system/", "usr/lib/systemd/system/", "lib/systemd/system/", "usr/local/lib/systemd/system/"} {
		if strings.HasPrefix(p, dir) {
			return readUnit
		}
	}
	return nil
}

// readUnit takes the programs and files of a unit (systemd.service(5), systemd.exec(5)).
func readUnit(m *mentions, p string, text []byte) {
	by := "unit " + path.Base(p)
	if path.Ext(p) == ".conf" {
		by = "unit " + strings.TrimSuffix(path.Base(path.Dir(p)), ".d")
	}
	for line := range lines(text) {
		key, value, ok := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		if !ok || !strings.HasPrefix(key, "Exec") && key != "EnvironmentFile" && key != "WorkingDirectory" && key != "LoadCredential" {
			continue
		}
		for word := range strings.FieldsSeq(value) {
			word = strings.TrimLeft(word, `-@:+!|"'`)
			if i := strings.IndexByte(word, '/'); i > 0 && (word[i-1] == '=' || word[i-1] == ':') {
				word = word[i:] // --config=/etc/x, id:/etc/x
			}
			word = strings.TrimRight(word, `"';,`)
			if strings.HasPrefix(word, "/") && !strings.ContainsAny(word, "%$*") {
				m.add(m.files, word, by)
			}
		}
	}
}

// lines are the lines of a text without its comments.
func lines(text []byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for scan := bufio.NewScanner(bytes.NewReader(text)); scan.Scan(); {
			line := strings.TrimSpace(scan.Text())
			if line != "" && line[0] != '#' && line[0] != ';' && !yield(line) {
				return
			}
		}
	}
}

// readSearchPath takes PATH out of login.defs(5) and environment(5).
func readSearchPath(m *mentions, p string, text []byte) {
	for line := range lines(text) {
		if i := strings.Index(line, "PATH="); i >= 0 {
			for dir := range strings.SplitSeq(strings.Trim(line[i+len("PATH="):], `"'`), ":") {
				if strings.HasPrefix(dir, "/") {
					m.add(m.folders, dir, "PATH of /"+p)
				}
			}
		}
	}
}

// readLoaderPath takes folders out of ld.so.conf.
func readLoaderPath(m *mentions, p string, text []byte) {
	for line := range lines(text) {
		if strings.HasPrefix(line, "/") {
			dir, _, _ := strings.Cut(line, " ")
			m.add(m.folders, dir, "/"+p)
		}
	}
}

// readLoaderCache takes the paths of libraries out of ld.so.cache: they are strings that
// end with NUL.
func readLoaderCache(m *mentions, p string, text []byte) {
	for word := range bytes.SplitSeq(text, []byte{0}) {
		if len(word) > 1 && word[0] == '/' {
			m.add(m.files, string(word), "/"+p)
		}
	}
}

// needed finds what stays behind and is named: by path, or as what is in a folder.
func (s *snapshotter) needed(ctx context.Context, m *mentions) ([]Needed, error) {
	var found []Needed
	look := func(p, by string, folder bool) error {
		row := s.leftAt(p, folder)
		if row == nil || len(found) >= maxNeeded {
			return nil
		}
		n := Needed{Path: p, By: by, Reason: row.Reason}
		err := s.host.Files(ctx, p, func(f snapshot.File, err error) error {
			if err == nil && f.Type == snapshot.Regular {
				n.Files, n.Bytes = n.Files+1, n.Bytes+f.Size
			}
			if f.Type == snapshot.Dir && f.Path != p {
				return fs.SkipDir
			}
			return nil
		})
		if n.Files > 0 {
			found = append(found, n)
		}
		return err
	}
	for _, p := range slices.Sorted(maps.Keys(m.files)) {
		if err := look(p, m.files[p], false); err != nil {
			return nil, err
		}
	}
	for _, p := range slices.Sorted(maps.Keys(m.folders)) {
		if err := look(p, m.folders[p], true); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// leftAt is the row of what was left that a path is counted in, or would be.
func (s *snapshotter) leftAt(p string, folder bool) *snapshot.Left {
	if e, kept := s.inv.Lookup(p); kept && (!folder || e.Class == snapshot.Owned || e.Class == snapshot.Made) && e.Class != snapshot.Secret {
		return nil
	}
	for i := range s.inv.Left {
		row := &s.inv.Left[i]
		if row.Path == p || row.Path == "." || strings.HasPrefix(p, row.Path+"/") || folder && path.Dir(row.Path) == p {
			return row
		}
	}
	return nil
}

// missed adds what stays for its content and is needed: nobody should find that out
// from a program that doesn't start.
func (s *snapshotter) missed(left map[string]image.Leaving, plan *image.Plan) (found []Needed) {
	for _, d := range plan.Decisions {
		l, ok := left[d.Path]
		by := s.mentions.of(d.Path)
		if by == "" && d.Class == snapshot.Owned && !strings.HasPrefix(d.Path, "etc/") {
			by = "its package"
		}
		if ok && l.Class == snapshot.Secret && l.Shown == "" && by != "" {
			found = append(found, Needed{Path: d.Path, By: by, Reason: l.Reason, Files: 1, Bytes: d.Size, Unanswered: true})
		}
	}
	broad := func(p, reason string, files, bytes int64) {
		if why, pattern, ok := strings.Cut(reason, snapshot.TooBroad); ok {
			found = append(found, Needed{Path: p, By: "--keep " + pattern, Reason: why, Files: files, Bytes: bytes, Unanswered: true})
		}
	}
	for _, d := range plan.Decisions {
		if d.Action == image.Left && d.Class == snapshot.Secret {
			broad(d.Path, d.Reason, 1, d.Size)
		}
	}
	for _, l := range s.inv.Left {
		if l.Class == snapshot.Secret {
			broad(l.Path, l.Reason, l.Files, l.Bytes)
		}
	}
	return found
}

// Unanswered are the needed paths that somebody has to decide on.
func (r *Review) Unanswered() []Needed {
	var all []Needed
	for _, n := range r.Needed {
		if n.Unanswered {
			all = append(all, n)
		}
	}
	return all
}

// UnansweredError says that a snapshot that nobody looks at would leave something
// behind which is needed and holds a secret.
type UnansweredError struct{ Needed []Needed }

func (e *UnansweredError) Error() string {
	var each []string
	for i, n := range e.Needed {
		if i == 10 {
			each = append(each, fmt.Sprintf("and %d more", len(e.Needed)-i))
			break
		}
		each = append(each, fmt.Sprintf("/%s (%s; named by %s)", n.Path, n.Reason, n.By))
	}
	return fmt.Sprintf("taking a snapshot: what may not leave is needed, and no saved rule answers: %s", strings.Join(each, ", "))
}

// Hint says how to answer.
func (e *UnansweredError) Hint() string {
	p := e.Needed[0].Path
	return fmt.Sprintf("look at each: --keep '/%s' takes it along as it is, --drop '/%s' leaves it; target.toml keeps the answers", p, p)
}
