package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// WithheldError says that a host's own maker of a bundle left a file behind for what
// is in it.
type WithheldError struct{ Reason string }

func (e *WithheldError) Error() string { return "it stayed on the host: " + e.Reason }

// UnsentError says that a bundle lists a file and doesn't hold its content.
type UnsentError struct {
	Path string
	// Original says that the host compared the content with the sum in its package
	// database, and found it to be the package's.
	Original bool
}

func (e *UnsentError) Error() string { return "the bundle doesn't hold the content of /" + e.Path }

// Summed is a Host that lists only what can matter, and has summed up the rest.
type Summed interface {
	Summed() []Left
}

// Divide walks a host and gives list each path that wanted names. The rest is summed up
// as Take does it, for a listing that has no more in it than a snapshot needs.
func Divide(ctx context.Context, host Host, rules Rules, inv *Inventory, wanted func(path string) bool, list func(File) error) (
	left, unreadable []Left, err error) {
	s := newSurvey(&Database{}, rules, nil)
	err = host.Files(ctx, ".", func(f File, err error) error {
		if err != nil {
			if s.unread(f, err); f.Type == 0 {
				return nil
			}
		}
		if !ValidPath(f.Path) {
			s.unread(f, errors.New("its path is too long"))
			return s.notBelow(f)
		}
		if f.Path == "." || wanted(f.Path) {
			return list(f)
		}
		e := Entry{File: f}
		e.Class, e.Reason = rules.Path(f.Path, f.Type)
		keeps := false
		if e.Class == "" {
			e.Class, e.Reason, keeps = rules.Place(f.Path, f.Type, inv.names[base(parent(f.Path))])
		}
		if inv.hidden[f.Link] && e.Class != Secret && (keeps || e.Class == Made || inv.names[base(f.Path)]) {
			e.Class, e.Reason = Secret, HardLinked
		}
		s.leave(e)
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("listing the host: %w", err)
	}
	inv.people.hide(s.unreadable, func(p string) bool { _, ok := inv.Lookup(p); return ok })
	return s.left.sorted(inv.people.shown), s.unreadable, nil
}

// people are the names of accounts that stay on a host: no path that is shown has one.
type people map[string]bool

// readPeople finds the accounts that the rules leave out of passwd. It is asked for
// whether or not it comes along: at some levels no file does, and paths name people still.
func readPeople(ctx context.Context, host Host, rules Rules, entries *Inventory) (people, error) {
	const passwd, defs = "etc/passwd", "etc/login.defs"
	var there []string
	for _, p := range []string{defs, passwd} {
		if e, ok := entries.Lookup(p); !ok || e.Type == Regular {
			there = append(there, p)
		}
	}
	text := map[string][]byte{}
	err := host.Read(ctx, there, func(p string, r io.Reader, err error) error {
		if err == nil {
			text[p], err = io.ReadAll(io.LimitReader(r, maxAccounts))
		}
		var unsent *UnsentError
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &unsent) {
			entries.Unreadable = append(entries.Unreadable, Left{Path: p, Reason: err.Error(), Files: 1})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	stay, _, ok := rules.Stands(passwd, []byte(string(text[defs])+"\n"+string(text[passwd])), Owners{})
	if !ok {
		return nil, nil
	}
	all := people(accountNames(text[passwd]))
	for name := range accountNames(stay) {
		delete(all, name)
	}
	return all, nil
}

// maxAccounts bounds a file of accounts, in bytes.
const maxAccounts = 16 << 20

func accountNames(text []byte) map[string]bool {
	names := map[string]bool{}
	for line := range strings.SplitSeq(string(text), "\n") {
		if name, _, ok := strings.Cut(line, ":"); ok && name != "" && !strings.ContainsAny(name, "+#/") {
			names[name] = true
		}
	}
	return names
}

// hide takes names of people out of rows, but for those of paths that are kept.
func (who people) hide(rows []Left, kept func(path string) bool) {
	for i, row := range rows {
		if shown := who.shown(row.Path); shown != row.Path && !kept(row.Path) {
			rows[i].Path, rows[i].Reason = shown, strings.ReplaceAll(row.Reason, "/"+row.Path, "/"+shown)
		}
	}
}

// shown is a path without the names of people: one that lies in a home ends there.
func (who people) shown(p string) string {
	parts := strings.Split(p, "/")
	for i, e := range parts {
		if i > 0 && i < 4 && parts[i-1] == "home" && (i == 1 || parts[0] == "opt" || parts[0] == "usr") {
			return strings.Join(parts[:i], "/")
		}
		if who[e] {
			parts[i] = "…"
		}
	}
	return strings.Join(parts, "/")
}
