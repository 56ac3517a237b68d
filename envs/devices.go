package envs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// maxDevices bounds the devices of one folder.
const maxDevices = 256

// devices gives the session the devices that were asked for.
func (s *sessionPlan) devices() error {
	for _, name := range s.Devices {
		nodes, err := deviceNodes(name)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if !slices.Contains(s.spec.Devices, n) {
				s.spec.Devices = append(s.spec.Devices, n)
			}
		}
	}
	return nil
}

// CheckDevice reports why there is no device of that name, or in that folder.
func CheckDevice(name string) error {
	_, err := deviceNodes(name)
	return err
}

// deviceNodes are the device of that name, or all in the folder of that name, as
// /dev/dri and /dev/snd are.
func deviceNodes(name string) ([]string, error) {
	name = filepath.Clean(name)
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("showing device %s: %w", name, cause(err))
	}
	if info.Mode()&fs.ModeDevice != 0 {
		return []string{name}, nil
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("showing device %s: it is no device", name)
	}
	var nodes []string
	err = filepath.WalkDir(name, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeDevice != 0 {
			nodes = append(nodes, p)
		}
		if len(nodes) > maxDevices {
			return fmt.Errorf("it holds more than %d devices", maxDevices)
		}
		return nil
	})
	if err == nil && len(nodes) == 0 {
		err = fmt.Errorf("there is no device in it")
	}
	if err != nil {
		return nil, fmt.Errorf("showing devices of %s: %w", name, cause(err))
	}
	return nodes, nil
}
