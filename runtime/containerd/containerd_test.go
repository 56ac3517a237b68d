package containerd_test

import (
	"testing"

	"github.com/stead-env/stead/runtime/containerd"
	"github.com/stead-env/stead/runtime/enginetest"
)

func TestMain(m *testing.M) { enginetest.Main(m, containerd.New(containerd.Options{})) }

func TestConformance(t *testing.T) {
	d := startDaemon(t)
	enginetest.Run(t, containerd.New(containerd.Options{}), enginetest.Options{})
	d.empty(t)
}
