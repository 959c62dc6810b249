package redistest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// childEnv makes TestServer_diesWithTheTestBinary play the binary that dies.
const childEnv = "REDISTEST_CHILD"

func TestServer_diesWithTheTestBinary(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		fmt.Printf("addr %s\n", Start(t).Addr())
		select {} // until it is killed
	}
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	child.Env = append(os.Environ(), childEnv+"=1")
	stdout, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	var addr string
	for lines := bufio.NewScanner(stdout); addr == "" && lines.Scan(); {
		_, _ = fmt.Sscanf(lines.Text(), "addr %s", &addr)
	}
	require.NoError(t, child.Process.Kill())
	_ = child.Wait() // killed
	require.NotEmpty(t, addr)
	gone := poll(nil, func() bool {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	require.True(t, gone, "the orphan still listens")
}
