"""Whether a URI of MongoDB can be understood; neither it nor a name server is asked."""

from pymongo.errors import ConfigurationError, InvalidURI
from pymongo.uri_parser import parse_uri

EXPECTED = (
    "mongodb://[user:password@]host[:port]/[database], with `:/?#[]@%` in user and password as "
    "%-escapes"
)
_BY_NAME_SERVER = "mongodb+srv://"  # its hosts are known to a name server only


def is_understood(uri: str) -> bool:
    """Whether a client can be made of it."""
    if uri.startswith(_BY_NAME_SERVER):
        return len(uri) > len(_BY_NAME_SERVER)
    try:
        parse_uri(uri, validate=False)  # options may name files of this machine
    except (ConfigurationError, InvalidURI, ValueError):
        return False
    return True
