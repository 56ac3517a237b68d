package envs

import (
	"context"
	"errors"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/snapshot"
)

// MakeOptions say how tools are installed.
type MakeOptions struct {
	Engine runtime.Engine
	// Layers opens a root, and what a session changed in it, as one host.
	Layers func(KeptLayers) (snapshot.Host, LayerChanges, error)
}

// MakeTools installs packages over a release's root, once, by the root's own package
// manager in a session without a network, and pins what came of it. Packages are all
// that the root lacks, archives where those that have an Archive are from. The result
// has no Wishes; its layer is in the store.
func MakeTools(ctx context.Context, cfg Config, base *Root, packages []lock.Package, archives []lock.Archive, opts MakeOptions) (*Tools, error) {
	if len(packages) == 0 {
		return &Tools{}, nil
	}
	return nil, errors.New("installing tools: this isn't built yet")
}
