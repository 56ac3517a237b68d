package envs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// keepTools notes the tools that a new session has.
func (k *Kept) keepTools(rel Release, identity digest.Digest, t *ChosenTools) error {
	if t == nil {
		return nil
	}
	l := projectLock{Targets: []chosen{{Want: rel.String(), Release: rel.Number, Lock: identity, Tools: t}}}
	return writeFile(filepath.Join(k.dir, keptAdded), l.text(), 0o600)
}

// tools are those that the session was begun with; nil for none.
func (k *Kept) tools() (*ChosenTools, error) {
	path := filepath.Join(k.dir, keptAdded)
	data, err := readBounded(path, maxProjectLock)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var l projectLock
	if err == nil {
		l, err = parseProjectLock(path, data)
	}
	if err == nil && (len(l.Targets) != 1 || l.Targets[0].Tools == nil) {
		err = fmt.Errorf("reading %s: it names no tools", path)
	}
	if err != nil {
		return nil, &damagedKept{k.Name, err}
	}
	return l.Targets[0].Tools, nil
}

// Tools makes the tools of the session ready: those of the project where it is new, and
// after that always those that it was begun with. It says in a line where the project
// asks for others by now.
func (k *Kept) Tools(ctx context.Context, cfg Config, root *Root, p *Project, opts ToolsConfig) (added AddedTools, note string, err error) {
	if k.New {
		added, err = p.ReadyTools(ctx, cfg, root, opts)
		if added.Layer != nil {
			note = fmt.Sprintf("session %s has the project's tools: with --no-tools another one can become a release", k.Name)
		}
		return added, note, err
	}
	begun, err := k.tools()
	if err != nil {
		return added, "", err
	}
	_, wishes, _ := p.Config.For(root.Release.Target)
	others := begun != nil && !sameWishes(begun.texts(), wishes)
	if l, err := p.readLock(root.Release.Target); err == nil && begun != nil && !others {
		c, ok := l.find(root.Release.Target)
		others = ok && c.Lock == root.Identity && c.Tools != nil && c.Tools.Digest != begun.Digest
	}
	switch {
	case begun != nil && opts.Without:
		return added, "", &KeptError{k.Name, "was begun with tools, and what it changed may stand on them", "take another name for one without them"}
	case begun == nil && len(wishes) > 0 && !opts.Without:
		note = fmt.Sprintf("session %s goes on without the project's tools: it was begun without", k.Name)
	case others:
		note = fmt.Sprintf("session %s goes on with the tools that it was begun with; the project has others by now", k.Name)
	}
	if begun == nil {
		return added, note, nil
	}
	added, err = pullChosen(ctx, cfg, root, begun, opts)
	return added, note, err
}
