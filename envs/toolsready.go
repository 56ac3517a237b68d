package envs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
)

// AddedTools are a project's tools, ready on this machine. They stay there until they
// are released; a zero one is none.
type AddedTools struct {
	Tools   *Tools
	Layer   *ToolsLayer
	chosen  *ChosenTools
	release func()
}

// Release lets gc have what nothing else needs.
func (a AddedTools) Release() {
	if a.release != nil {
		a.release()
	}
}

// ReadyTools makes the tools ready that the project asks for on a release: they are
// pulled as stead.lock has them. Where it hasn't, or has others, they are chosen and
// made on the way in, and stead.lock keeps them if it has the release; with Locked that
// is a *LockedError.
func (p *Project) ReadyTools(ctx context.Context, cfg Config, root *Root, opts ToolsConfig) (AddedTools, error) {
	var none AddedTools
	_, wishes, _ := p.Config.For(root.Release.Target)
	if len(wishes) == 0 || opts.Without {
		return none, nil
	}
	if err := noteProject(cfg.Store, p.Dir); err != nil {
		return none, err
	}
	l, err := p.readLock(root.Release.Target)
	if err != nil {
		return none, err
	}
	c, listed := l.find(root.Release.Target)
	listed = listed && c.Lock == root.Identity
	switch {
	case listed && sameWishes(c.Tools.texts(), wishes):
		return pullChosen(ctx, cfg, root, c.Tools, opts)
	case opts.Locked && listed:
		return none, &LockedError{root.Release.Target, p.otherWishes(root.Release.Target, c)}
	case opts.Locked:
		return none, &LockedError{root.Release.Target, "it has no tools for " + root.Release.String()}
	}
	before := c.Tools
	if !listed {
		// A release beside those of stead.lock: the store remembers what was chosen.
		if known, ok := p.recallTools(cfg, root); ok {
			if sameWishes(known.texts(), wishes) {
				return pullChosen(ctx, cfg, root, known, opts)
			}
			before = known
		}
	}
	choose := toolChooser{cfg: cfg, opts: opts, before: before, sameBase: before != nil && listed}
	chosen, err := choose.choose(ctx, root.Release, wishes)
	if err != nil {
		return none, fmt.Errorf("adding tools to %s: %w", root.Release, err)
	}
	if !listed {
		err = p.rememberTools(cfg, root, chosen)
	} else {
		err = p.changeLock(func(l projectLock) projectLock {
			if now, ok := l.find(root.Release.Target); ok && now.Lock == c.Lock && sameWishes(p.nowFor(root.Release.Target), wishes) {
				now.Tools = chosen
				return l.with(now)
			}
			return l
		})
	}
	if err != nil {
		return none, err
	}
	if n := countSole(cfg, chosen); n > 0 && listed {
		cfg.Progress.Note("adding tools", fmt.Sprintf("%d packages were chosen as tools for %s; %d blobs of that exist only here: stead push",
			len(chosen.Packages), root.Release, n))
	}
	return pullChosen(ctx, cfg, root, chosen, opts)
}

// pullChosen makes chosen tools ready. Where nobody at hand has what their scripts made,
// they run again, here: that is all right if it comes to the same.
func pullChosen(ctx context.Context, cfg Config, root *Root, t *ChosenTools, opts ToolsConfig) (AddedTools, error) {
	if len(t.Packages) == 0 {
		return AddedTools{}, nil // the release has it all
	}
	layer, err := t.pull(ctx, cfg, root, opts)
	if err != nil {
		return AddedTools{}, err
	}
	if opts.Locked && !layer.Made { // whoever chooses may choose anew
		if err := t.Tools().checkClaims(cfg, root.Release, layer); err != nil {
			return AddedTools{}, err
		}
	}
	release, err := HoldTools(layer)
	return AddedTools{t.Tools(), layer, t, release}, err
}

func (t *ChosenTools) pull(ctx context.Context, cfg Config, root *Root, opts ToolsConfig) (*ToolsLayer, error) {
	layer, err := PullTools(ctx, cfg, root, t.Tools())
	var missing *MissingBlobError
	if !errors.As(err, &missing) || missing.Digest != t.Delta.Digest() || opts.Make == nil {
		return layer, err
	}
	cfg.Progress.Note("adding tools", fmt.Sprintf("what scripts made of the tools for %s isn't at hand, so they run again", root.Release))
	again := *t
	again.Packages = slices.Clone(t.Packages)
	make := toolChooser{cfg: cfg, opts: opts}
	if err := make.make(ctx, root, &again); err != nil {
		return nil, fmt.Errorf("adding tools to %s: %w", root.Release, err)
	}
	if again.Delta != t.Delta || again.Digest != t.Digest {
		return nil, &OtherToolsError{Release: root.Release, Want: t.Delta.Digest(), Got: again.Delta.Digest()}
	}
	return PullTools(ctx, cfg, root, t.Tools())
}

// OtherToolsError says that the scripts of tools, run again, made something else.
type OtherToolsError struct {
	Release   Release
	Want, Got digest.Digest
}

func (e *OtherToolsError) Error() string {
	return fmt.Sprintf("adding tools to %s: what their scripts made (%s) is neither here nor in the fleet, and run again they made %s",
		e.Release, e.Want, e.Got)
}

// Hint says how to go on.
func (e *OtherToolsError) Hint() string {
	return "whoever ran stead update has it: stead push there, then update the fleet here; or stead update --renew " +
		e.Release.Target + " chooses anew"
}

// keptTools is a folder beside the view of a target.
const keptTools = "tools"

// toolsFile is where the store keeps the tools for a release that stead.lock hasn't got.
func (p *Project) toolsFile(cfg Config, root *Root) string {
	return filepath.Join(viewDir(cfg.Store, p.Dir), root.Release.Target, keptTools, root.Identity.Encoded()+".lock")
}

func (p *Project) recallTools(cfg Config, root *Root) (*ChosenTools, bool) {
	path := p.toolsFile(cfg, root)
	data, err := readBounded(path, maxProjectLock)
	if err != nil {
		return nil, false
	}
	l, err := parseProjectLock(path, data)
	if err != nil || len(l.Targets) != 1 || l.Targets[0].Lock != root.Identity || l.Targets[0].Tools == nil {
		return nil, false // it is chosen anew
	}
	return l.Targets[0].Tools, true
}

func (p *Project) rememberTools(cfg Config, root *Root, t *ChosenTools) error {
	l := projectLock{Targets: []chosen{{Want: root.Release.String(), Release: root.Release.Number, Lock: root.Identity, Tools: t}}}
	path := p.toolsFile(cfg, root)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("remembering the tools for %s: %w", root.Release, err)
	}
	return writeFile(path, l.text(), 0o600)
}
