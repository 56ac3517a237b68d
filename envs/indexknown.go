package envs

import (
	"slices"
	"sync"

	"github.com/stead-env/stead/envs/artifact/system"
	"github.com/stead-env/stead/envs/lock"
)

// maxKnown bounds the indexes that are searched for records: one has some megabytes.
const maxKnown = 12

// knownRecords finds objects that other indexes of the fleet tell of. It is safe for
// concurrent use.
type knownRecords struct {
	cfg     Config
	targets []string

	mu      sync.Mutex
	pending []*lock.Attachment // the likeliest first
	open    []*system.Index
}

// knownObjects are those of a target's newest release, and of the other targets'.
func knownObjects(cfg Config, target string) (*knownRecords, error) {
	targets, err := cfg.Fleet.Targets()
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(targets, func(a, b string) int {
		switch {
		case a == target && b != target:
			return -1
		case b == target && a != target:
			return 1
		}
		return 0
	})
	k := &knownRecords{cfg: cfg, targets: targets}
	for _, name := range targets {
		index, err := newestIndex(cfg, name)
		if err != nil {
			return nil, err
		}
		if index != nil && len(k.pending) < maxKnown && !slices.ContainsFunc(k.pending, func(o *lock.Attachment) bool { return *o == *index }) {
			k.pending = append(k.pending, index)
		}
	}
	return k, nil
}

// newestIndex is the index of the newest of a target's releases that has one.
func newestIndex(cfg Config, target string) (*lock.Attachment, error) {
	releases, err := cfg.Fleet.Releases(target)
	if err != nil {
		return nil, err
	}
	for _, rel := range slices.Backward(releases) {
		text, err := rel.Text()
		if err != nil {
			return nil, err
		}
		header, err := lock.ReadHeader(text)
		if err != nil {
			continue // who needs it will say so
		}
		if header.Index != nil {
			return header.Index, nil
		}
		if index := rememberedIndex(cfg.Store, lock.Identity(text)); index != nil {
			return index, nil
		}
	}
	return nil, nil
}

// record is what they have of an object, by the SHA-256 of its content.
func (k *knownRecords) record(sum string) ([]byte, bool) {
	for i := 0; ; i++ {
		x := k.index(i)
		if x == nil {
			return nil, false
		}
		if r, ok := x.Known(sum); ok {
			return r, true
		}
	}
}

func (k *knownRecords) has(sum string) bool {
	_, ok := k.record(sum)
	return ok
}

// index opens indexes as they are needed. One that can't be had knows nothing.
func (k *knownRecords) index(i int) *system.Index {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i >= len(k.open) && len(k.pending) > 0 {
		next := k.pending[0]
		k.pending = k.pending[1:]
		if x, err := readIndex(k.cfg, next, ""); err == nil {
			k.open = append(k.open, x)
		}
	}
	if i >= len(k.open) {
		return nil
	}
	return k.open[i]
}

// packages are those that the targets' newest releases pin. What can't be read pins none.
func (k *knownRecords) packages() (all []lock.Package) {
	for _, name := range k.targets[:min(len(k.targets), maxKnown)] {
		if l, err := k.cfg.Fleet.newest(name); err == nil && l != nil {
			all = append(all, l.Packages...)
		}
	}
	return all
}
