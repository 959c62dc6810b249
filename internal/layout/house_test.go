package layout

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// root is the root of the repository, from here.
const root = "../.."

// wantNone fails with one line for each thing that is wrong.
func wantNone(t *testing.T, wrong []string) {
	t.Helper()
	assert.Empty(t, wrong, "\n"+strings.Join(wrong, "\n"))
}

func TestHouse_importsRunOneWay(t *testing.T) {
	pkgs, err := listPackages(root)
	require.NoError(t, err)
	wantNone(t, checkEdges(pkgs, forbidden()))
	wantNone(t, checkDepth(pkgs, maxDepth))
}

func TestHouse_rootHoldsOnlyWhatIsAllowed(t *testing.T) {
	wrong, err := checkRoot(os.DirFS(root), rootEntries())
	require.NoError(t, err)
	wantNone(t, wrong)
}

func TestHouse_goModIsALibrarys(t *testing.T) {
	m, err := readGoMod(root)
	require.NoError(t, err)
	wantNone(t, checkGoMod(&m))
}

func TestHouse_filesAreShort(t *testing.T) {
	wrong, err := checkLength(os.DirFS(root), maxLines, excused())
	require.NoError(t, err)
	wantNone(t, wrong)
}

func TestHouse_everyPackageHasOneComment(t *testing.T) {
	wrong, err := checkComments(os.DirFS(root))
	require.NoError(t, err)
	wantNone(t, wrong)
}

func TestHouse_testsNeitherSleepNorSkip(t *testing.T) {
	wrong, err := checkTests(os.DirFS(root))
	require.NoError(t, err)
	wantNone(t, wrong)
}

func TestHouse_noPromiseRestsOnAWallClock(t *testing.T) {
	wrong, err := checkClocks(os.DirFS(root), wallCalls(), wallFiles())
	require.NoError(t, err)
	wantNone(t, wrong)
}

func TestHouse_entriesAreMadeByTheirPackage(t *testing.T) {
	wrong, err := checkEntries(os.DirFS(root))
	require.NoError(t, err)
	wantNone(t, wrong)
}
