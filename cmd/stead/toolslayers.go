package main

import (
	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host"
)

// makeOptions say how tools are installed with an engine.
func makeOptions(engine runtime.Engine) (envs.MakeOptions, error) {
	rules, err := rulesAt("", nil, nil)
	return envs.MakeOptions{Engine: engine, Layers: openLayers, Rules: rules}, err
}

// openLayers opens a root, and what was changed in it, as one host.
func openLayers(l envs.KeptLayers) (snapshot.Host, envs.LayerChanges, error) {
	o, err := host.OpenOverlay(host.Layers{Upper: l.Upper, Lower: l.Root.Path, Entries: l.Entries,
		MountPoints: l.MountPoints, UserXattrs: l.UserXattrs, Live: l.Live, Unheld: l.Unheld})
	if err != nil {
		return nil, nil, err
	}
	return o, o.Changes, nil
}
