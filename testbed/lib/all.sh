# Everything, for the commands.
set -euo pipefail
lib=$(dirname "${BASH_SOURCE[0]}")
for part in say place host base cluster registry stage; do
    # shellcheck source=/dev/null
    source "$lib/$part.sh"
done
