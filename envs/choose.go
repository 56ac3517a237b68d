package envs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// LockedError says that stead.lock isn't what stead.toml and the fleet ask for.
type LockedError struct{ Target, Reason string }

func (e *LockedError) Error() string {
	return fmt.Sprintf("%s doesn't match for %s: %s", ProjectLockFile, e.Target, e.Reason)
}

// Hint says how to go on.
func (e *LockedError) Hint() string { return "stead update " + e.Target }

// Choose finds the release of each ref. What stead.toml lists comes from
// stead.lock and is written there when it is new; with locked nothing is written,
// and what stead.lock hasn't got as it is wanted is a *LockedError.
func (p *Project) Choose(f *Fleet, refs []Ref, locked bool) ([]Release, error) {
	names := make([]string, len(refs))
	for i, ref := range refs {
		names[i] = ref.Target
	}
	l, err := p.readLock(names...)
	if err != nil {
		return nil, err
	}
	var releases []Release
	var fresh []chosen
	for _, ref := range refs {
		c, ok := l.find(ref.Target)
		switch {
		case ok && c.Want == ref.String():
			r, err := p.locked(f, ref.Target, c)
			if err != nil {
				return nil, err
			}
			if locked && r.Number < c.Release { // a release that is renumbered gets a later number
				return nil, &LockedError{ref.Target, fmt.Sprintf("it has release %d, and the fleet has that one as %s", c.Release, r)}
			}
			if reason := p.otherWishes(ref.Target, c); locked && reason != "" {
				return nil, &LockedError{ref.Target, reason}
			}
			releases = append(releases, r)
			continue
		case locked && ok:
			return nil, &LockedError{ref.Target, fmt.Sprintf("it was made for %s, and %s is wanted", c.Want, ref)}
		case locked:
			if _, err := p.readLock(); err != nil { // or is damaged where it was
				return nil, err
			}
			return nil, &LockedError{ref.Target, "it isn't in there"}
		}
		r, err := f.Resolve(ref)
		if err != nil {
			return nil, err
		}
		releases = append(releases, r)
		if slices.Contains(p.Config.Targets, ref.String()) {
			c, err := choice(ref, r)
			if err != nil {
				return nil, err
			}
			fresh = append(fresh, c)
		}
	}
	if len(fresh) == 0 {
		return releases, nil
	}
	return releases, p.changeLock(func(l projectLock) projectLock {
		for _, c := range fresh {
			ref, err := ParseRef(c.Want)
			if now, ok := l.find(ref.Target); err == nil && ok && now.Want == c.Want {
				continue // another one was here first, and may have tools
			}
			l = l.with(c)
		}
		return l
	})
}

// otherWishes says what tools stead.toml asks for that differ from those which were
// chosen for; "" where none do.
func (p *Project) otherWishes(target string, c chosen) string {
	_, wanted, _ := p.Config.For(target)
	had := c.Tools.texts()
	lacks := func(list, of []string) (names []string) {
		for _, w := range list {
			if !slices.Contains(of, w) {
				names = append(names, w)
			}
		}
		return names
	}
	var parts []string
	if more := lacks(wanted, had); len(more) > 0 {
		parts = append(parts, "stead.toml asks for tools that aren't in it: "+strings.Join(more, ", "))
	}
	if less := lacks(had, wanted); len(less) > 0 {
		parts = append(parts, "it has tools that stead.toml doesn't ask for: "+strings.Join(less, ", "))
	}
	return strings.Join(parts, ", and ")
}

// locked is the release that stead.lock names. Where the fleet renumbered it, its
// identity finds it.
func (p *Project) locked(f *Fleet, target string, c chosen) (Release, error) {
	r, err := f.Resolve(Ref{Target: target, Number: c.Release})
	var unknown *UnknownError
	if err == nil {
		id, err := r.Identity()
		if err != nil || id == c.Lock {
			return r, err
		}
	} else if !errors.As(err, &unknown) || unknown.Kind != "release" {
		return Release{}, err
	}
	r, ok, err := f.FindIdentity(target, c.Lock)
	if err == nil && !ok {
		err = &LockedError{target, fmt.Sprintf("the fleet's %s@%d is another release, and none has digest %s", target, c.Release, c.Lock)}
	}
	return r, err
}

// choice is a release as stead.lock has it, without tools.
func choice(ref Ref, r Release) (chosen, error) {
	id, err := r.Identity()
	return chosen{Want: ref.String(), Release: r.Number, Lock: id}, err
}
