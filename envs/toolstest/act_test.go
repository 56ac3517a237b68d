package toolstest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/runtime/oci"
	"github.com/stead-env/stead/runtime/rootless"
)

// actAs is set in a copy of this program that makes tools, or makes them ready, and ends.
const actAs = "STEAD_TEST_TOOLS"

// task is what that copy does.
type task struct {
	Store    string
	Packages []lock.Package // to be installed
	Tools    *envs.Tools    // to be pulled
	Look     string         // script that is run in what came of it
}

// outcome is what it answers.
type outcome struct {
	Tools  *envs.Tools
	Output string
	Notes  string
}

// act is the copy. It works in a user namespace, as stead does.
func act(what string) int {
	inside, _, err := rootless.Await()
	if err == nil && !inside && rootless.Needed() {
		var code int
		if code, err = rootless.Enter(rootless.Find(os.TempDir())); err == nil {
			return code
		}
	}
	var t task
	if err == nil {
		err = json.Unmarshal([]byte(what), &t)
	}
	if err == nil {
		err = t.do(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (t task) do(ctx context.Context) (err error) {
	n := &notes{}
	cfg, err := config(t.Store, n.progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cfg.Store.Close()) }()
	rel, err := cfg.Fleet.Resolve(envs.Ref{Target: "acme"})
	if err != nil {
		return err
	}
	base, err := envs.Pull(ctx, cfg, rel)
	if err != nil {
		return err
	}
	w := &world{nil, cfg, base, oci.New(""), n}
	o := outcome{Tools: t.Tools}
	if o.Tools == nil {
		opts, err := w.options()
		if err != nil {
			return err
		}
		if o.Tools, err = envs.MakeTools(ctx, cfg, base, t.Packages, nil, opts); err != nil {
			return err
		}
	}
	layer, err := envs.PullTools(ctx, cfg, base, o.Tools)
	if err != nil {
		return err
	}
	if t.Look != "" {
		if o.Output, err = w.run(ctx, layer, t.Look); err != nil {
			return err
		}
	}
	o.Notes = n.String()
	return json.NewEncoder(os.Stdout).Encode(o)
}
