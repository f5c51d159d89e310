"""The kind of value that every setting and every record is."""

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Frozen(BaseModel):
    """A value that cannot change and refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """As forms can draw it: they know `anyOf`, call a variant by its title, and offer what an `enum` lists."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for one in properties.values():
            if "oneOf" in one:
                one["anyOf"] = one.pop("oneOf")
                one.pop("discriminator", None)
        kind = properties.get("kind", {})
        if "const" in kind:
            kind["enum"] = [kind["const"]]
            handler.resolve_ref_schema(schema)["title"] = kind["const"]
        return schema
