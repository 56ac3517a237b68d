package envs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/BurntSushi/toml"
)

// UserConfig is what the developer wants on this machine, for all projects:
// ~/.config/stead/config.toml.
type UserConfig struct {
	Engine   string   `toml:"engine"`    // which engine runs sessions
	SSHAgent bool     `toml:"ssh-agent"` // sessions with a network may use the ssh agent
	Env      Settings `toml:"env"`
	// Containerd says which daemon the engine of that name uses, where the environment
	// doesn't: its socket, and the namespace and snapshotter there.
	Containerd struct {
		Address     string `toml:"address"`
		Namespace   string `toml:"namespace"`
		Snapshotter string `toml:"snapshotter"`
	} `toml:"containerd"`
}

// ReadUserConfig reads the user's configuration. Where there is none, nothing is
// wanted.
func ReadUserConfig() (c UserConfig, err error) {
	path, err := userConfigFile()
	if err != nil {
		return c, err
	}
	data, err := readBounded(path, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	return parseUserConfig(path, data)
}

func parseUserConfig(path string, data []byte) (c UserConfig, err error) {
	if err := decodeText(path, data, &c); err != nil {
		return c, err
	}
	return c, c.Env.settle(path, string(data), toml.Key{"env"}, "")
}

// userConfigFile is where the XDG base directory specification has it.
func userConfigFile() (string, error) {
	dir := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) {
		home, err := homeDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "stead", "config.toml"), nil
}
